"""Decodes the trees of a sweep: units on a pool of replicas, each walking its trees against an engine."""
