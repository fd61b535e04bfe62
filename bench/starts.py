"""Server start -> healthy, memory once settled, and a run's start: POST sent -> first line of `echo` at a connected follower.

    python -m bench.starts [--log postgres|kafka] [--samples 20]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.noise import emit, noise, percentile, pss_mb
from tools import server_process

ECHO = {"experiment_name": "bench", "command": "echo started", "environment": {"image": "python"}, "compute": "warm"}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", choices=["postgres", "kafka"], default="postgres")
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="foldline-bench-") as name:
        Path(name).chmod(0o755)
        data = Path(name) / "data"
        server = server_process.start(arguments.log, data)  # makes the data folder: initdb, keys
        server_process.stop(server)
        started = time.perf_counter()
        server = server_process.start(arguments.log, data)
        healthy = time.perf_counter() - started
        emit("server-start", log=arguments.log, healthy_s=round(healthy, 2), noise=noise())
        try:
            await _measure(server, arguments.log, arguments.samples)
        finally:
            server_process.down(server)


async def _measure(server: server_process.Server, log: str, samples: int) -> None:
    import httpx2

    headers = {"Authorization": f"Bearer {server.token_file.read_text().strip()}"}
    async with httpx2.AsyncClient(base_url=f"{server.url}/api/v1", headers=headers, timeout=120) as http:
        (await http.post("/workspaces", json={"name": "bench"})).raise_for_status()
        for compute, least in (("warm", 1), ("cold", 0)):
            body = {"name": compute, "min_instances": least, "max_instances": 1, "idle_time_before_scale_down": 1.0}
            (await http.post("/workspaces/bench/computes", json=body)).raise_for_status()
        await _one(http, ECHO)
        await _one(http, ECHO)
        warm = [await _one(http, ECHO) for _ in range(samples)]
        firsts = [sample["first_line_ms"] for sample in warm]
        emit(
            "warm-start", log=log, samples=samples, p50_ms=round(percentile(firsts, 0.5), 1), min_ms=round(min(firsts), 1),
            max_ms=round(max(firsts), 1), posted_p50_ms=round(percentile([s["posted_ms"] for s in warm], 0.5), 1),
            running_p50_ms=round(percentile([s.get("running_ms", 0.0) for s in warm], 0.5), 1), noise=noise(),
        )
        cold = []
        for _ in range(3):
            cold.append((await _one(http, {**ECHO, "compute": "cold"}))["first_line_ms"])
            await _until_empty(http, "cold")
        emit("start-from-zero", log=log, samples=3, p50_ms=round(percentile(cold, 0.5), 1), max_ms=round(max(cold), 1), noise=noise())
        _memory(server, log)


async def _one(http: Any, body: dict[str, Any]) -> dict[str, float]:
    """Milliseconds from the POST to its answer, to `running`, to the first line, of one run."""
    sample: dict[str, float] = {}
    started = time.perf_counter()
    answer = await http.post("/workspaces/bench/jobs", json=body)
    answer.raise_for_status()
    sample["posted_ms"] = (time.perf_counter() - started) * 1e3
    run = answer.json()["name"]
    async with http.stream("GET", f"/workspaces/bench/jobs/{run}/log", headers={"Accept": "text/event-stream"}) as events:
        kind = ""
        async for line in events.aiter_lines():
            if line.startswith("event:"):
                kind = line.partition(":")[2].strip()
            elif line.startswith("data:"):
                now = (time.perf_counter() - started) * 1e3
                if kind == "log":
                    sample.setdefault("first_line_ms", now)
                if kind == "status" and '"running"' in line:
                    sample.setdefault("running_ms", now)
                if kind == "end":
                    break
    if "first_line_ms" not in sample:
        raise SystemExit(f"{run} printed nothing")
    return sample


async def _until_empty(http: Any, compute: str) -> None:
    for _ in range(300):
        if (await http.get(f"/workspaces/bench/computes/{compute}")).json()["nodes"] == 0:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the cluster did not go back to 0")


def _memory(server: server_process.Server, log: str) -> None:
    time.sleep(3)
    own = psutil.Process(server.pid)
    agents = [p for p in psutil.process_iter() if "foldline.node" in _words(p) and str(server.data) in _words(p)]
    family = [p for p in psutil.process_iter() if str(server.data) in _words(p)]
    everything = {p.pid: p for p in [own, *own.children(recursive=True), *family]}
    emit(
        "memory", log=log, server_pss_mb=pss_mb([own]), agents=len(agents), agent_pss_mb=pss_mb(agents[:1]),
        total_pss_mb=pss_mb(everything.values()), processes=len(everything), noise=noise(),
    )


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    asyncio.run(main())
