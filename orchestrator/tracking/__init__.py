"""MLflow, as a mirror of the store."""
