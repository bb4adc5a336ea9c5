"""What ``python -m orchestrator`` can do: a module for each command, with its arguments, its help and its work.

Module ``name`` has the click command ``name``; ``try_`` and ``as_json`` have ``try`` and ``as-json``. It is imported
when called, so at its top it imports no more than click and :mod:`orchestrator.command_line`: the rest where it works.
"""
