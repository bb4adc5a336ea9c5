"""The control plane: an experiment file in, finished steps and MLflow runs out."""
