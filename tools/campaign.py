"""Long campaigns that resume: each slice done is a line (commit, range, result) in a ledger, and lines add up within one commit only.

    tools/campaign.py simulation [--until 20000] [--slice 500]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "tests" / "ledger.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=["simulation"])
    parser.add_argument("--until", type=int, default=20_000, help="how many seeds in all, for this commit")
    parser.add_argument("--slice", type=int, default=500)
    arguments = parser.parse_args()
    commit = _commit()
    done = _done(arguments.campaign, commit)
    print(f"{arguments.campaign} at {commit[:10]}: {done} of {arguments.until} seeds are in the ledger", flush=True)
    while done < arguments.until:
        first, last = done, min(done + arguments.slice, arguments.until)
        started = time.monotonic()
        failures = _simulate(first, last)
        _write({
            "campaign": arguments.campaign, "commit": commit, "range": [first, last], "result": "failed" if failures else "passed",
            "failures": failures[:10], "seconds": round(time.monotonic() - started, 1),
        })
        if failures:
            print(f"failed: {failures[0]}")
            return 1
        done = last
        print(f"{done} of {arguments.until}", flush=True)
    print(f"{done} passed, 0 failed")
    return 0


def _simulate(first: int, last: int) -> list[str]:
    from tests.simulation.test_day import check_settled, day

    failures = []
    for seed in range(first, last):
        try:
            world = day(seed)
            world.check_at_quiet()
            check_settled(world)
        except AssertionError as violation:
            failures.append(f"seed {seed}: {violation}"[:500])
    return failures


def _commit() -> str:
    """The commit; with changes in the tree it gets a mark, so that its lines add up with nothing."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{LEDGER.relative_to(ROOT)}"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    return f"{head}+changes-{int(time.time())}" if status.strip() else head


def _done(campaign: str, commit: str) -> int:
    if not LEDGER.exists():
        return 0
    lines = [json.loads(line) for line in LEDGER.read_text().splitlines()]
    mine = [line["range"] for line in lines if (line["campaign"], line["commit"], line["result"]) == (campaign, commit, "passed")]
    reached = 0
    for first, last in sorted(mine):
        if first > reached:
            break
        reached = max(reached, last)
    return reached


def _write(line: dict[str, object]) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
