"""Kill -9 of script, agent, server and Postgres, and Ctrl-C on `up`, each in the middle of a run.

The run goes on or ends truthfully, its log lines and points are complete, nothing runs twice.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

LINES = 40
COUNTING = f"""
import os, time
import foldline
with open("outputs/started.txt", "a") as f:
    f.write(f"{{os.getpid()}}\\n")
for n in range({LINES}):
    print(f"line {{n}}", flush=True)
    foldline.log_metric("count", float(n), step=n)
    time.sleep(0.1)
print("done", flush=True)
"""


def lines_of(lab: Installation, run: str) -> list[str]:
    return lab.cli("job", "logs", "--name", run).stdout.splitlines()


WAITING = "import time\nprint('line 5', flush=True)\ntime.sleep(300)\n"


def started(lab: Installation, job: Callable[..., Path], name: str, script: str = COUNTING) -> str:
    """Submits the script and returns once it has printed a few lines."""
    lab.cli("job", "create", "-f", str(job(script)), "--name", name, "--no-wait")
    lab.wait_status(name, "running")
    lab.wait("a few lines", lambda: "line 5" in lines_of(lab, name))
    return name


def assert_complete(lab: Installation, run: str) -> None:
    """All lines once and in order, all points once, one start of the script."""
    shown = lab.wait_status(run, "completed", limit_seconds=90)
    assert shown["exit_code"] == 0
    assert shown["attempt"] == 1
    lab.wait("the curves to be complete", lambda: lab.show(run)["curves_complete"])
    assert lines_of(lab, run) == [*(f"line {n}" for n in range(LINES)), "done"]
    metrics = {metric["key"]: metric for metric in lab.ask("job", "metrics", "--name", run)}
    assert metrics["count"]["count"] == LINES
    assert metrics["count"]["last"] == LINES - 1
    assert metrics["count"]["min"] == 0


def events_of(lab: Installation, run: str) -> list[str]:
    return [happening["type"] for happening in lab.ask("job", "story", "--name", run)]


def script_process(lab: Installation, name: str) -> Any:
    found = [p for p in lab.processes("main.py") if "python" in p.name()]
    assert found, f"no script of {name} runs"
    return found[0]


def test_a_killed_script_ends_its_run_as_failed_by_that_signal_with_all_it_logged(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "killed-script")
    script_process(lab, run).kill()
    shown = lab.wait_status(run, "failed")
    assert shown["reason"] == "signal"
    assert "SIGKILL" in shown["message"] or "9" in shown["message"]
    lab.wait("the curves to be complete", lambda: lab.show(run)["curves_complete"])
    printed = [line for line in lines_of(lab, run) if line.startswith("line ")]
    points = {metric["key"]: metric for metric in lab.ask("job", "metrics", "--name", run)}["count"]
    assert printed == [f"line {n}" for n in range(len(printed))]
    assert points["count"] in (len(printed), len(printed) - 1)


def test_a_point_survives_the_script_that_dies_right_after_it(lab: Installation, job: Callable[..., Path]) -> None:
    script = "import os, foldline\nfoldline.log_metric('last', 42.0)\nos._exit(3)\n"
    lab.cli("job", "create", "-f", str(job(script)), "--name", "exits-at-once", "--no-wait")
    shown = lab.wait_status("exits-at-once", "failed")
    assert shown["exit_code"] == 3
    lab.wait("the point", lambda: lab.show("exits-at-once")["metrics"] == {"last": 42.0})


def test_a_killed_agent_is_started_again_and_adopts_the_script(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "killed-agent")
    script = script_process(lab, run).pid
    for agent in lab.processes("foldline.node", str(lab.data)):
        agent.kill()
    assert_complete(lab, run)
    assert script_started_once(lab, run) == 1
    assert script > 0


def test_a_killed_server_leaves_the_run_going_and_finds_it_again(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "killed-server")
    lab.kill_server()
    time.sleep(1)
    lab.start()
    assert_complete(lab, run)
    assert script_started_once(lab, run) == 1
    assert events_of(lab, run).count("run-ended") == 1


def test_a_killed_postgres_comes_back_and_nothing_is_lost(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "killed-postgres")
    postmaster = int(next((lab.data / "pg").rglob("postmaster.pid")).read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    assert_complete(lab, run)
    assert script_started_once(lab, run) == 1


def test_ctrl_c_on_up_leaves_the_run_going(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "interrupted-server")
    os.kill(lab.server.pid, signal.SIGINT)
    os.waitpid(lab.server.pid, 0)
    assert script_process(lab, run).is_running()
    lab.start()
    assert_complete(lab, run)
    assert script_started_once(lab, run) == 1


def test_a_run_whose_node_vanished_with_its_agent_ends_as_lost_after_somebody_forgets_the_node(
    lab: Installation, job: Callable[..., Path],
) -> None:
    run = started(lab, job, "forgotten-node", WAITING)
    node = lab.show(run)["node"]
    lab.cli("node", "forget", "--name", node)
    shown = lab.wait_status(run, "failed")
    assert shown["reason"] == "node_lost"
    assert events_of(lab, run).count("run-ended") == 1


def test_a_canceled_run_gets_its_grace_and_ends_canceled(lab: Installation, job: Callable[..., Path]) -> None:
    run = started(lab, job, "canceled", WAITING)
    lab.cli("job", "cancel", "--name", run)
    shown = lab.wait_status(run, "canceled")
    assert shown["reason"] == "canceled"
    assert "run-cancel-requested" in events_of(lab, run)


def script_started_once(lab: Installation, run: str) -> int:
    """How many processes wrote to the run's started.txt."""
    files = {file["path"] for file in lab.ask("job", "outputs", "--name", run)}
    assert "outputs/started.txt" in files
    folder = lab.data.parent / f"download-{run}"
    lab.cli("job", "download", "--name", run, "--download-path", str(folder))
    return len(next(folder.rglob("started.txt")).read_text().split())
