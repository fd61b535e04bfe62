"""`make bench`: every workload, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time

WORKLOADS = (
    ["bench.append", "--log", "postgres"],
    ["bench.append", "--log", "kafka"],
    ["bench.replay"],
    ["bench.starts", "--log", "postgres"],
    ["bench.starts", "--log", "kafka"],
    ["bench.log_metric"],
    ["bench.serving"],
)


def main() -> int:
    failed = 0
    for workload in WORKLOADS:
        if sys.argv[1:] and not any(word in workload[0] for word in sys.argv[1:]):
            continue
        time.sleep(2)
        done = subprocess.run([sys.executable, "-m", *workload], check=False)
        if done.returncode:
            print(f"{' '.join(workload)} failed with {done.returncode}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
