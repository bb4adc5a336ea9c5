"""What decodes: one small protocol, and one module per library behind it."""
