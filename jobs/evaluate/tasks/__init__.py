"""What a model is asked: :func:`load` turns a task of the experiment file into items, whatever they come from."""

from jobs.evaluate.tasks.loading import load
from jobs.evaluate.tasks.task import Item, Task

__all__ = ["Item", "Task", "load"]
