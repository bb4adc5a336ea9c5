"""A sweep for people and programs: tables, plots, costs."""
