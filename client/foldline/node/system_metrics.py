"""Standard metrics of a run, under MLflow's names: CPU, memory, GPU, disk, network of the machine, and what the run itself uses."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

MEGABYTE = 1 << 20
GPU_QUERY = ("--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw", "--format=csv,noheader,nounits")
GPU_SECONDS_MAX = 5.0


class Sampler:
    """Appends one line of points each interval to a spool file of the agent's own, until cancelled."""

    def __init__(
        self, spool: int, folder: str, processes: Callable[[], Sequence[int]], memory_used: Callable[[], int | None], *,
        started: float, interval_seconds: float = 5.0,
    ) -> None:
        self._spool, self._folder = spool, folder
        self._processes, self._memory_used = processes, memory_used
        self._started, self._interval = started, interval_seconds
        self._before: dict[int, float] = {}
        self._at = time.monotonic()

    async def run(self) -> None:
        await asyncio.sleep(min(1.0, self._interval))
        import psutil  # here, so that neither an idle agent nor a script's first moments have to do with it

        network = psutil.net_io_counters()
        psutil.cpu_percent(None)
        self._own(psutil)
        while True:
            await asyncio.sleep(self._interval)
            found = self._machine(psutil, network) | self._own(psutil) | await _gpus()
            step, now = round((time.time() - self._started) / self._interval), time.time_ns() // 1_000_000
            points = [[key, step, round(value, 3)] for key, value in found.items()]
            os.write(self._spool, json.dumps({"t": now, "m": points}, separators=(",", ":")).encode() + b"\n")

    def _machine(self, psutil: Any, network: Any) -> dict[str, float]:
        memory, disk, sent = psutil.virtual_memory(), psutil.disk_usage(self._folder), psutil.net_io_counters()
        found = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(None),
            "system/system_memory_usage_megabytes": (memory.total - memory.available) / MEGABYTE,
            "system/system_memory_usage_percentage": memory.percent,
            "system/disk_usage_megabytes": disk.used / MEGABYTE,
            "system/disk_usage_percentage": disk.percent,
            "system/disk_available_megabytes": disk.free / MEGABYTE,
        }
        if sent is not None and network is not None:
            found["system/network_receive_megabytes"] = (sent.bytes_recv - network.bytes_recv) / MEGABYTE
            found["system/network_transmit_megabytes"] = (sent.bytes_sent - network.bytes_sent) / MEGABYTE
        return found

    def _own(self, psutil: Any) -> dict[str, float]:
        """CPU per cent (100 = one core) and memory of the run's processes."""
        used: dict[int, float] = {}
        resident = 0
        for pid in self._processes():
            try:
                process = psutil.Process(pid)
                times = process.cpu_times()
                used[pid] = times.user + times.system
                resident += process.memory_info().rss
            except psutil.Error:
                continue
        now = time.monotonic()
        spent = sum(seconds - self._before.get(pid, 0.0) for pid, seconds in used.items())
        percent = 100.0 * spent / max(now - self._at, 1e-3)
        self._before, self._at = used, now
        memory = self._memory_used()
        return {
            "system/run_cpu_percentage": percent,
            "system/run_memory_megabytes": (resident if memory is None else memory) / MEGABYTE,
        }


async def _gpus() -> dict[str, float]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    process = await asyncio.create_subprocess_exec(
        program, *GPU_QUERY, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(GPU_SECONDS_MAX):
            said, _ = await process.communicate()
    except TimeoutError:
        return {}
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    return gpus(said.decode(errors="replace"))


def gpus(said: str) -> dict[str, float]:
    """nvidia-smi's table as points; what a card does not say is left out."""
    found: dict[str, float] = {}
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not cells[0].isdigit():
            continue
        names = ("utilization_percentage", "memory_usage_megabytes", "memory_total_megabytes", "power_usage_watts")
        for name, cell in zip(names, cells[1:], strict=True):
            try:
                found[f"system/gpu_{cells[0]}_{name}"] = float(cell)
            except ValueError:
                continue
    return found
