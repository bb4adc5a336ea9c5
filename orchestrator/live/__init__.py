"""A running experiment as a page that refreshes by itself: what ``python -m orchestrator report FILE --follow`` shows.

Read in this order: ``snapshot`` (what the store says now), ``page`` (as HTML), ``server`` (to this machine's user
alone). It is a process of its own that reads the store, so it costs the run nothing, and follows one on any machine.
"""
