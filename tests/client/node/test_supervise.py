"""The supervising process over real processes: its files, its limits, its order of stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foldline.node import supervise
from foldline.node.launcher import Exit, Launcher, Supervised


@pytest.fixture
async def launcher() -> AsyncIterator[Launcher]:
    found = Launcher()
    found.start()
    yield found
    found.close()


def _order(folder: Path, command: str, **changes: list[str]) -> bytes:
    control = folder / "control"
    control.mkdir(exist_ok=True)
    (control / "std_log.txt").touch()
    return supervise.encode(
        {
            "control": [str(control)],
            "folder": [str(folder)],
            "argv": ["/bin/bash", "-c", command],
            "environment": ["A=b"],
            "cgroups": [],
            "uid": [str(os.getuid())],
            "grace": ["5"],
            "time_limit": ["0"],
            "lease": ["0"],
            "log_bytes_max": ["1000000"],
            **changes,
        }
    )


async def _run(launcher: Launcher, folder: Path, command: str, **changes: list[str]) -> tuple[Exit, str]:
    supervised = await _launched(launcher, folder, command, **changes)
    exit_ = await supervised.ended()
    return exit_, (folder / "control" / "std_log.txt").read_text()


async def _launched(launcher: Launcher, folder: Path, command: str, **changes: list[str]) -> Supervised:
    supervised = Supervised(folder / "control")
    await launcher.launch(_order(folder, command, **changes))
    while not supervised.claimed:
        await asyncio.sleep(0.001)
    return supervised


def test_an_order_is_the_same_after_its_journey() -> None:
    order = {"argv": ["a", "", "c\nd", "ü"], "none": [], "one": ["\udc80"]}
    assert supervise.decode(supervise.encode(order)[8:]) == order


async def test_output_and_exit_code_are_left_in_files(launcher: Launcher, tmp_path: Path) -> None:
    exit_, log = await _run(launcher, tmp_path, "echo out; echo err >&2; echo $A; cat; exit 5")
    assert (exit_.status, exit_.cause, exit_.set_up) == (5, "exited", True) and log == "out\nerr\nb\n"
    assert exit_.started <= exit_.ended


async def test_only_its_own_variables_reach_the_script(launcher: Launcher, tmp_path: Path) -> None:
    _, log = await _run(launcher, tmp_path, "env")
    assert {line.split("=")[0] for line in log.splitlines()} <= {"A", "PWD", "SHLVL", "_"}


async def test_the_same_attempt_is_started_once_whoever_asks(launcher: Launcher, tmp_path: Path) -> None:
    orders = [_order(tmp_path, "echo once >> times; sleep 0.2") for _ in range(5)]
    await asyncio.gather(*(launcher.launch(order) for order in orders))
    await asyncio.sleep(0.1)
    await Supervised(tmp_path / "control").ended()
    assert (tmp_path / "times").read_text() == "once\n"


async def test_a_script_that_forks_on_is_swept_away(launcher: Launcher, tmp_path: Path) -> None:
    exit_, _ = await _run(launcher, tmp_path, "sleep 73.5 & sleep 73.5 & echo $! > pid; exit 0")
    assert exit_.status == 0
    assert not supervise.start_time(int((tmp_path / "pid").read_text()))


async def test_a_log_over_its_limit_is_cut_and_says_so(launcher: Launcher, tmp_path: Path) -> None:
    exit_, log = await _run(launcher, tmp_path, "head -c 5000000 /dev/zero | tr '\\0' x; echo end", log_bytes_max=["1000"])
    assert exit_.status == 0 and log == "x" * 1000 + "\n[foldline: the log has reached its limit; later output is dropped]\n"


async def test_a_program_that_is_not_there_is_said_in_the_log(launcher: Launcher, tmp_path: Path) -> None:
    exit_, log = await _run(launcher, tmp_path, "", argv=["/no/such/program"])
    assert exit_.status == 127 and "cannot start /no/such/program" in log


async def test_a_sandbox_that_cannot_be_set_up_is_told_apart_from_a_script_that_fails(launcher: Launcher, tmp_path: Path) -> None:
    exit_, log = await _run(launcher, tmp_path, "", argv=["/usr/bin/bwrap", "--ro-bind", "/no/such/folder", "/x", "/bin/true"])
    assert not exit_.set_up and "bwrap:" in log


async def test_stopping_goes_by_term_then_kill_and_may_be_hurried(launcher: Launcher, tmp_path: Path) -> None:
    supervised = await _launched(launcher, tmp_path, "trap 'echo got term' TERM; echo up; while true; do sleep 0.05; done")
    await _says(tmp_path, "up")
    supervised.stop(60)
    await _says(tmp_path, "got term")
    begin = time.monotonic()
    supervised.stop(0.2)
    exit_ = await supervised.ended()
    assert (exit_.status, exit_.cause) == (-signal.SIGKILL, "stopped") and time.monotonic() - begin < 5


async def test_the_time_limit_holds_without_any_agent(tmp_path: Path) -> None:
    launcher = Launcher()
    launcher.start()
    supervised = await _launched(launcher, tmp_path, "sleep 60", time_limit=["0.3"], grace=["0.2"])
    launcher.close()
    exit_ = await supervised.ended()
    assert exit_.cause == "time_limit" and exit_.ended - exit_.started < 5


async def test_the_lease_holds_without_any_agent(tmp_path: Path) -> None:
    launcher = Launcher()
    launcher.start()
    (tmp_path / "control").mkdir()
    supervised = Supervised(tmp_path / "control")
    supervised.renew(time.monotonic() + 0.5)
    await launcher.launch(_order(tmp_path, "sleep 60", lease=["1"]))
    launcher.close()
    while not supervised.claimed:
        await asyncio.sleep(0.001)
    assert (await supervised.ended()).cause == "lease"


async def test_a_killed_supervising_process_leaves_no_exit(launcher: Launcher, tmp_path: Path) -> None:
    supervised = await _launched(launcher, tmp_path, "echo up; sleep 60")
    await _says(tmp_path, "up")
    supervised.kill()
    assert (await supervised.ended()).cause == "vanished" and supervised.process() is None


async def test_a_start_costs_a_fork(launcher: Launcher, tmp_path: Path) -> None:
    """The supervising process of a started script holds little of its own."""
    supervised = await _launched(launcher, tmp_path, "sleep 5")
    pid = supervised.process()
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    assert int(rollup["Pss"].split()[0]) < 10_000
    supervised.kill()
    await supervised.ended()


async def _says(folder: Path, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in (folder / "control" / "std_log.txt").read_text():
            await asyncio.sleep(0.01)
