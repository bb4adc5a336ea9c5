"""A finished sweep in other tools' formats. Everything is a function of its published files: nothing is measured again
but the intervals that plots need.

``inspect_logs`` and ``lm_eval`` have samples, and what a score came to; ``table_files`` every table, ``paper_figures``
every plot.
"""
