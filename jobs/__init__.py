"""The data plane: what runs on the cluster. One package per kind of step.

A kind is a package ``jobs.<kind>`` with a module ``job`` whose ``JOB`` is an :class:`orchestrator.job.record.Job`: the
config of its steps, the function that does the work, and what else it can do. Other packages bring kinds by entry
points: see docs/extending.md.
"""
