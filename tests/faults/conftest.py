"""What tests of faults share with those of whole runs."""

from tests.orchestrator.conftest import reached, server, workplace

__all__ = ["reached", "server", "workplace"]
