"""What a sweep asks: policies, the tree of pieces that they share, prompts, ledgers. Pure data and pure functions."""
