"""Evaluates a model under a grid of thinking policies, decoding what the policies share once.

Read in this order: ``config`` (what is asked), ``sweep`` (policies and the tree they share), ``decode`` (the walker
of one tree, the pool of many), ``traces`` (what is kept), ``run``, ``grading``, ``stats``, ``figures``, ``report``.
"""
