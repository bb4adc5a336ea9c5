"""Where code that a model wrote is run, without anything that it could read, reach or outlast."""

from jobs.evaluate.grading.sandbox.runs import RunLimits, ProgramRun, SandboxError, run, unavailable

__all__ = ["RunLimits", "ProgramRun", "SandboxError", "run", "unavailable"]
