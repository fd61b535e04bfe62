"""The machine's noise and the memory of process trees, for the lines that the workloads print."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

import psutil


def noise(seconds: float = 1.0) -> dict[str, float]:
    """Cores that others keep busy while nothing of ours runs, and how long a fixed piece of Python takes (milliseconds)."""
    busy = psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)
    started = time.perf_counter()
    sum(i * i for i in range(200_000))
    return {"busy_cores": round(busy, 2), "python_ms": round((time.perf_counter() - started) * 1e3, 2)}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of them lie; of fewer than 100 values p99 is close to the maximum."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def pss_mb(processes: Iterable[psutil.Process]) -> float:
    """Proportional set size of the processes, in MB (10^6 bytes)."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 1e6, 1)


def emit(workload: str, **figures: object) -> None:
    """Prints one line."""
    print(json.dumps({"workload": workload, **figures}), flush=True)
