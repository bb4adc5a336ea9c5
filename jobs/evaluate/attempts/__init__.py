"""Trying a model by hand: one question at a time, steered while it thinks, every attempt kept and compared.

What a sweep does to thousands of traces is done here to one, with the same engine, walker and delimiters, so what is
seen is what a sweep would count.
"""
