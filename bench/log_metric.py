"""What `log_metric` costs the training loop: microseconds a call, in a loop, into a spool file. Prints one JSON line."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

CALLS = 100_000
ROUNDS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder, "points.jsonl")
        spool.touch()
        os.environ["FOLDLINE_SPOOL"] = str(spool)
        from foldline import log_metric

        means: list[float] = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            for number in range(CALLS):
                log_metric("loss", 0.5, number)
            means.append((time.perf_counter() - begin) / CALLS * 1e6)
        single: list[float] = []
        for number in range(20_000):
            begin = time.perf_counter()
            log_metric("loss", 1.0 / (number + 1), number)
            single.append((time.perf_counter() - begin) * 1e6)
        lines = sum(1 for _ in spool.open())
    single.sort()
    print(json.dumps({
        "bench": "log_metric", "unit": "us/call", "mean": round(statistics.median(means), 2), "best": round(min(means), 2),
        "worst": round(max(means), 2), "p50": round(single[len(single) // 2], 2), "p99": round(single[int(len(single) * 0.99)], 2),
        "calls": CALLS * ROUNDS + len(single), "lines": lines, "aim": 20, "cores": os.cpu_count(),
    }))


if __name__ == "__main__":
    main()
