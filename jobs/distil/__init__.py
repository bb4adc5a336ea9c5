"""The ``distil`` kind of step: a teacher's traces as a dataset. A sweep with one policy, and what is kept of it."""
