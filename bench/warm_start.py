"""A warm start on the node: the server's answer to the held request for work → the first line of `echo` acknowledged, part by part.

The server is the tests' small one (in this process, over loopback), so these are the agent's own milliseconds. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from foldline.node.main import end
from tests.client.node.control_plane import TOKEN, ControlPlane, control_plane

RUNS = 30
PARTS = ("prepared_ms", "supervised_ms", "first_output_ms", "acknowledged_ms")


async def measured(folder: Path, plane: ControlPlane) -> dict[str, object]:
    config = {"server": plane.url, "token": TOKEN, "directory": str(folder / "node"), "log": str(folder / "agent.log")}
    (folder / "config.json").write_text(json.dumps(config))
    begin = time.perf_counter()
    agent = subprocess.Popen([sys.executable, "-m", "foldline.node", "--config", str(folder / "config.json")], start_new_session=True)
    await plane.until(lambda: plane.hellos, 30)
    ready = time.perf_counter() - begin
    seen_at: list[float] = []
    for number in range(RUNS + 2):
        begin = time.perf_counter()
        seen = await plane.assign("echo hello", run=f"r-{number}", files={"train.py": b"print(1)\n", "b.txt": b"b"})
        await plane.until(partial(getattr, seen, "log"), 60)
        seen_at.append((time.perf_counter() - begin) * 1000)
        await plane.over(seen)
        await asyncio.sleep(0.6)
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{agent.pid}/smaps_rollup").read_text().splitlines()[1:])
    events = [json.loads(line) for line in (folder / "agent.log").read_text().splitlines()]
    timings = [one for one in events if one["event"] == "run.timing"][2:]
    warm = sorted(seen_at[2:])
    return {
        "bench": "warm_start", "unit": "ms", "runs": len(warm), "p50": round(statistics.median(warm), 1),
        "p90": round(warm[int(len(warm) * 0.9)], 1), "worst": round(warm[-1], 1),
        **{f"{part}_p50": round(statistics.median(one[part] for one in timings), 1) for part in PARTS},
        "first_cold_ms": round(seen_at[0]), "agent_ready_ms": round(ready * 1000),
        "agent_pss_mb": round(int(rollup["Pss"].split()[0]) / 1024, 1),
        "aim_ms": 60, "load": Path("/proc/loadavg").read_text().split()[0],
    }


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldline-bench-"))
    try:
        async with control_plane() as plane:
            print(json.dumps(await measured(folder, plane)))
    finally:
        end(folder / "node")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
