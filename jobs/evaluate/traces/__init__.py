"""Decoded trees as the store keeps them: pieces of token ids, in files that replicas append and sweeps share."""
