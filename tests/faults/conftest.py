"""What tests of faults share with those of sweeps and of whole runs."""

from tests.evaluate.conftest import cluster
from tests.orchestrator.conftest import reached, server, workplace

__all__ = ["cluster", "reached", "server", "workplace"]
