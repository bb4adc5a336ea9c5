"""What says how good a trace is as far as it goes: scorers, behind one protocol."""
