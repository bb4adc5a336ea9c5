"""Evaluates a model under a grid of thinking policies, decoding what the policies share once.

Read in this order: ``policies`` (what is compared), ``tree`` (what they share), ``walker`` (decodes a tree against an
engine), ``pool`` (many trees on many replicas), ``traces`` (what is kept), ``grading``, ``statistics``, ``curves``.
"""
