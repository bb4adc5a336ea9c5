"""Where experiments run: Ray clusters on one machine and, by their cluster files, elsewhere."""
