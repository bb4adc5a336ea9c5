"""Where code that a model wrote is run, without anything that it could read, reach or outlast."""

from jobs.evaluate.grading.sandbox.runs import ProgramRun, RunLimits, SandboxError, run, unavailable

__all__ = ["ProgramRun", "RunLimits", "SandboxError", "run", "unavailable"]
