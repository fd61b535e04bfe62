"""Runs the tests in three stages and says how long each took: unit, contract (real Postgres, real Kafka), system."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    ("unit", ["tests", "--ignore=tests/contract", "--ignore=tests/system", "-n", "2", "--dist", "loadfile"]),
    ("contract", ["tests/contract", "-n", "2", "--dist", "loadfile"]),
    ("system", ["tests/system", "-n", "0"]),
)


def main() -> int:
    wanted = set(sys.argv[1:])
    failed: list[str] = []
    for name, arguments in STAGES:
        if wanted and name not in wanted:
            continue
        started = time.monotonic()
        print(f"== {name} tests", flush=True)
        argv = [sys.executable, "-m", "pytest", "-q", "-m", "not long", "--durations=5", *arguments]
        done = subprocess.run(argv, cwd=ROOT, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        print(f"== {name} tests: {'passed' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
