"""How busy worker 0's machine is, under the names that MLflow has for it, so that its page shows them as its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psutil

try:
    import pynvml
except ImportError:  # Comes with vLLM's CUDA build; machines without GPUs have no use for it.
    pynvml = None

_MEGABYTE = 1e6
_PREFIX = "system/"


class SystemMetrics:
    """Measures at most every so many seconds; use of CPUs and network is of the time since the last."""

    def __init__(self, every: float = 10.0):
        self._every = every
        self._last = float("-inf")
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()
        self._cards = list(_cards())

    def due(self) -> dict[str, float]:
        """The metrics by name, or nothing when they were measured just now."""
        now = time.monotonic()
        if now - self._last < self._every:
            return {}
        self._last = now
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage("/"), psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
            "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / _MEGABYTE,
        }
        self._network = network
        for number, card in enumerate(self._cards):
            values |= {f"gpu_{number}_{name}": value for name, value in _measured(card).items()}
        return {f"{_PREFIX}{name}": float(value) for name, value in values.items()}


def _cards() -> Iterator[Any]:
    """NVML's handles of the machine's GPUs; none where there is no driver, or no ``nvidia-ml-py``."""
    if pynvml is None:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            yield pynvml.nvmlDeviceGetHandleByIndex(number)
    except pynvml.NVMLError as error:
        print(f"The machine's GPUs are not measured: {error}", flush=True)


def _measured(card: Any) -> dict[str, float]:
    """What the driver tells of a card now; nothing where it fails to, as of a card that does not tell its power."""
    try:
        memory, rates = pynvml.nvmlDeviceGetMemoryInfo(card), pynvml.nvmlDeviceGetUtilizationRates(card)
        watts = pynvml.nvmlDeviceGetPowerUsage(card) / 1000
    except pynvml.NVMLError:
        return {}
    return {
        "utilization_percentage": rates.gpu,
        "memory_usage_megabytes": memory.used / _MEGABYTE,
        "memory_usage_percentage": 100 * memory.used / memory.total,
        "power_usage_watts": watts,
    }
