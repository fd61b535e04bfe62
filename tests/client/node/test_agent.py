"""The agent against a control plane over real HTTP, with real sandboxes, environments and processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from foldline.node import supervise
from tests.client.node.conftest import Agents
from tests.client.node.control_plane import ControlPlane

METRICS = """
import time, foldline
for number in range(%d):
    foldline.log_metric("loss", number / 7)
    print("line", number)
    time.sleep(%g)
"""


BYE = b"""
import signal, sys, time

def bye(*_):
    print("saved")
    sys.exit(0)

signal.signal(signal.SIGTERM, bye)
print("up")
time.sleep(60)
"""


async def test_a_run_goes_from_assignment_to_stored_outputs(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign(
        "python train.py --lr ${{inputs.lr}} $[[--extra ${{inputs.extra}}]] && cp train.py ${{outputs.model}}/ && cat data/x.txt",
        files={
            "train.py": b"import sys, foldline\nprint(sys.argv[1:])\nfoldline.log_params({'lr': 0.1})\nfoldline.set_tag('kind', 'small')\n"
            b"foldline.log_metrics({'a': 1, 'b': float('nan')}, step=3)\nopen('outputs/m.bin', 'wb').write(b'123')\n"
            b"open('logs/own.log', 'w').write('mine')\n",
            "data/x.txt": b"deep\n",
        },
        inputs={"lr": 0.1},
        outputs={"model": "uri_folder"},
        environment_variables={"MINE": "yes"},
    )
    ended = await plane.over(seen)
    assert (ended.outcome, ended.reason, ended.exit_code) == ("completed", "succeeded", 0), seen.log
    assert seen.log == "['--lr', '0.1']\ndeep\n"
    assert set(plane.outputs(seen)) - {"system_logs/environment.txt"} == {
        "outputs/m.bin",
        "logs/own.log",
        "named-outputs/model/train.py",
        "user_logs/std_log.txt",
    }
    assert plane.output(seen, "user_logs/std_log.txt").decode() == seen.log
    assert seen.parameters == {"lr": "0.1"} and seen.tags == {"kind": "small"}
    assert [(key, step) for key, step, _ in seen.points] == [("a", 3), ("b", 3)]
    assert plane.blobs[str(seen.started[0].environment_lock)].decode().count("\npip==") == 1
    assert seen.exited[0].exit_code == 0
    plane.check_complete(seen)


async def test_the_second_run_of_an_environment_finds_it_built(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    for number in (1, 2):
        seen = await plane.assign("echo ready", run=f"run-{number}")
        await plane.over(seen)
    assert seen.started[0].environment_cached


async def test_a_failing_script_ends_with_its_exit_code_and_a_sentence(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    ended = await plane.over(await plane.assign("echo no >&2; exit 7"))
    assert (ended.outcome, ended.reason, ended.exit_code, ended.message) == ("failed", "exit_code", 7, "The script ended with exit code 7.")


async def test_a_script_that_kills_itself_is_ended_by_a_signal(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    ended = await plane.over(await plane.assign("kill -9 $$"))
    assert (ended.outcome, ended.reason, ended.exit_code) == ("failed", "signal", -9)


async def test_a_cancelled_script_gets_term_and_its_grace(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    script = BYE
    seen = await plane.assign("python t.py; echo after", files={"t.py": script})
    await plane.until(lambda: "up" in seen.log, 30)
    await plane.stop(seen, grace=10)
    ended = await plane.over(seen, 8)
    assert (ended.outcome, ended.reason) == ("canceled", "canceled")
    assert "saved" in seen.log
    plane.check_complete(seen)


async def test_a_script_that_ignores_term_is_killed_after_the_grace_with_its_daemons(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign(
        "trap '' TERM; setsid bash -c \"trap '' TERM; exec -a foldline-stray-$$ sleep 61.5\" & echo up; sleep 60; sleep 60"
    )
    await plane.until(lambda: "up" in seen.log, 30)
    begin = time.monotonic()
    await plane.stop(seen, grace=0.5)
    ended = await plane.over(seen, 15)
    assert ended.outcome == "canceled" and ended.exit_code == -9
    assert time.monotonic() - begin >= 0.5
    assert subprocess.run(["pgrep", "-f", "foldline-stray-|sleep 61.5"], capture_output=True).returncode == 1


async def test_a_run_stopped_while_it_prepares_never_starts(plane: ControlPlane, agents: Agents) -> None:
    plane.fail_next = lambda path: "/snapshots/" in path
    await agents.start()
    seen = await plane.assign("echo never", files={"a": b"x"})
    await plane.until(lambda: seen.listed, 20)
    await plane.stop(seen, grace=5)
    ended = await plane.over(seen, 10)
    assert ended.outcome == "canceled" and not seen.started and not seen.log


async def test_a_script_over_its_time_limit_is_stopped(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    ended = await plane.over(await plane.assign("sleep 60", time_limit_seconds=0.4), 15)
    assert (ended.outcome, ended.reason, ended.message) == ("failed", "time_limit", "Stopped after its time limit of 0.4 s.")


async def test_an_environment_that_cannot_be_built_fails_the_run_with_a_sentence(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo never", packages=["no-such-package-of-foldline==1"])
    ended = await plane.over(seen)
    assert ended.reason == "preparation_failed"
    assert "no-such-package-of-foldline was not found" in ended.message
    assert "no-such-package-of-foldline" in seen.logs["system_logs/environment.txt"].decode()


async def test_an_expression_that_names_nothing_fails_the_run_with_a_sentence(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    ended = await plane.over(await plane.assign("echo ${{inputs.nothing}}"))
    assert ended.reason == "preparation_failed" and "${{inputs.nothing}}" in ended.message


async def test_a_stale_attempt_is_killed_and_forgotten(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo up; sleep 62.25")
    await plane.until(lambda: "up" in seen.log, 30)
    plane.stale.add(("calm-fox-1", 1))
    seen.drop = False
    seen.assignment = seen.assignment.model_copy()
    await plane.drop(seen)
    await _until(lambda: not list((agents.directory / "runs").iterdir()))
    assert subprocess.run(["pgrep", "-f", "sleep 62.25"], capture_output=True).returncode == 1
    assert not seen.ended


async def test_a_report_answered_stale_ends_the_script(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    plane.stale.add(("calm-fox-1", 1))
    seen = await plane.assign("echo up; sleep 62.75")
    await _until(lambda: "run.stale" in agents.said())
    seen.drop = True
    await _until(lambda: not list((agents.directory / "runs").iterdir()))
    assert subprocess.run(["pgrep", "-f", "sleep 62.75"], capture_output=True).returncode == 1


async def test_an_agent_killed_again_and_again_loses_and_doubles_nothing(plane: ControlPlane, agents: Agents) -> None:
    """Kill -9 of the agent at many points of one run; the script runs once and every point and line arrives once."""
    await agents.start()
    seen = await plane.assign("echo begin; python m.py", files={"m.py": (METRICS % (150, 0.02)).encode()})
    for pause in (0.0, 0.05, 0.25, 0.1, 0.3, 0.02):
        await plane.until(lambda: seen.listed or seen.ended, 20)
        await asyncio.sleep(pause)
        agents.kill()
        await agents.start()
    ended = await plane.over(seen)
    assert ended.outcome == "completed", ended
    assert [step for key, step, _ in seen.points if key == "loss"] == list(range(150))
    assert seen.log == "begin\n" + "".join(f"line {number}\n" for number in range(150))
    plane.check_complete(seen)


async def test_a_run_that_ended_while_no_agent_was_there_is_finished_by_the_next_one(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo up; sleep 0.5; echo done > outputs/x; exit 3")
    await plane.until(lambda: "up" in seen.log, 30)
    agents.kill()
    await asyncio.sleep(1)
    await agents.start()
    ended = await plane.over(seen)
    assert (ended.reason, ended.exit_code) == ("exit_code", 3)
    assert "outputs/x" in plane.outputs(seen)
    plane.check_complete(seen)


async def test_a_server_that_is_away_costs_the_run_nothing(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("python m.py", files={"m.py": (METRICS % (120, 0.02)).encode()})
    await plane.until(lambda: len(seen.points) > 5, 30)
    await plane.down()
    await asyncio.sleep(1.5)
    await plane.up()
    ended = await plane.over(seen)
    assert ended.outcome == "completed"
    assert len(seen.points) == 120 and seen.log.count("line") == 120
    plane.check_complete(seen)


async def test_answers_that_get_lost_are_asked_for_again(plane: ControlPlane, agents: Agents) -> None:
    calls: dict[str, int] = {}

    def every_third(path: str) -> bool:
        calls[path] = calls.get(path, 0) + 1
        return calls[path] % 3 == 1

    await agents.start()
    plane.fail_next = every_third
    seen = await plane.assign("python m.py; echo x > outputs/a", files={"m.py": (METRICS % (30, 0.02)).encode()})
    assert (await plane.over(seen)).outcome == "completed"
    assert len(seen.points) == 30
    plane.check_complete(seen)


async def test_a_run_that_another_node_may_take_is_stopped_before_its_lease_ends(plane: ControlPlane, agents: Agents) -> None:
    plane.lease_seconds = 2.0
    await agents.start()
    seen = await plane.assign("echo up; sleep 63.25", retries_on_node_lost=1)
    stays = await _supervised(plane, seen, agents)
    agents.kill()
    begin = time.monotonic()
    await _until(lambda: not supervise.start_time(stays))
    assert time.monotonic() - begin < 2.5
    assert subprocess.run(["pgrep", "-f", "sleep 63.25"], capture_output=True).returncode == 1


async def test_a_run_without_a_retry_is_never_stopped_for_lack_of_contact(plane: ControlPlane, agents: Agents) -> None:
    plane.lease_seconds = 0.5
    await agents.start()
    seen = await plane.assign("echo up; sleep 3; echo end")
    await _supervised(plane, seen, agents)
    agents.kill()
    await asyncio.sleep(2)
    await agents.start()
    assert (await plane.over(seen)).outcome == "completed"
    assert seen.log == "up\nend\n"


async def test_killing_the_supervising_process_kills_the_script_and_says_so(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo up; sleep 63.75")
    os.kill(await _supervised(plane, seen, agents), signal.SIGKILL)
    ended = await plane.over(seen)
    assert ended.reason == "agent_error" and "supervised" in ended.message
    assert subprocess.run(["pgrep", "-f", "sleep 63.75"], capture_output=True).returncode == 1


async def test_system_metrics_come_by_themselves(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("sleep 1.2")
    await plane.over(seen)
    assert {"system/cpu_utilization_percentage", "system/run_memory_megabytes", "system/disk_usage_percentage"} <= set(seen.system)
    plane.check_complete(seen)


async def test_a_parameter_that_changes_is_told_in_the_runs_own_log(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("python -c \"import foldline; foldline.log_param('a', 1); foldline.log_param('a', 2)\"")
    await plane.over(seen)
    assert seen.parameters == {"a": "1"}
    assert "[foldline: The parameter never changes.]" in seen.log
    plane.check_complete(seen)


async def test_two_slots_run_two_runs_at_once_under_two_uids(plane: ControlPlane, agents: Agents) -> None:
    await agents.start(slots=2)
    runs = [await plane.assign("id -u; sleep 1", run=f"run-{number}") for number in (1, 2)]
    begin = time.monotonic()
    await plane.until(lambda: all(seen.started for seen in runs), 30)
    for seen in runs:
        await plane.over(seen)
    assert time.monotonic() - begin < 10
    if os.getuid() == 0:
        assert runs[0].log != runs[1].log


async def test_the_next_run_begins_as_soon_as_the_one_before_has_ended(plane: ControlPlane, agents: Agents) -> None:
    """An assignment that is there before the answer to `ended` is not put off to the next heartbeat."""
    plane.heartbeat_seconds = 20.0
    await agents.start()
    runs = [await plane.assign("echo hello", run=f"run-{number}") for number in range(4)]
    for seen in runs:
        assert (await plane.over(seen, 15)).outcome == "completed"


async def test_a_released_agent_ends(plane: ControlPlane, agents: Agents) -> None:
    process = await agents.start()
    plane.release = True
    assert await asyncio.to_thread(process.wait, 10) == 0


async def test_an_agent_whose_token_is_refused_kills_its_runs_and_ends(plane: ControlPlane, agents: Agents) -> None:
    process = await agents.start()
    seen = await plane.assign("echo up; sleep 64.25")
    await plane.until(lambda: "up" in seen.log, 30)
    plane.refuse_token = True
    assert await asyncio.to_thread(process.wait, 15) == 3
    assert subprocess.run(["pgrep", "-f", "sleep 64.25"], capture_output=True).returncode == 1


async def test_an_agent_told_to_end_leaves_its_run_to_the_next_one(plane: ControlPlane, agents: Agents) -> None:
    process = await agents.start()
    seen = await plane.assign("echo up; sleep 1; echo end")
    await plane.until(lambda: "up" in seen.log, 30)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 10) == 0
    await agents.start()
    assert (await plane.over(seen)).outcome == "completed" and seen.log == "up\nend\n"


async def test_an_agent_needs_no_more_than_60_mb(plane: ControlPlane, agents: Agents) -> None:
    process = await agents.start()
    seen = await plane.assign("sleep 1; head -c 3000000 /dev/zero | base64")
    await plane.over(seen)
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:])
    assert int(rollup["Pss"].split()[0]) < 60_000


@pytest.mark.parametrize("missing", ["server", "token", "directory"])
def test_a_config_that_lacks_something_is_refused_with_a_sentence(missing: str, agents: Agents) -> None:
    config = {"server": "http://x", "token": "t", "directory": "/nowhere"}
    del config[missing]
    path = agents.folder / "bad.json"
    path.write_text(json.dumps(config))
    import sys

    done = subprocess.run([sys.executable, "-m", "foldline.node", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 2 and missing in done.stderr and "Traceback" not in done.stderr


async def _supervised(plane: ControlPlane, seen: object, agents: Agents) -> int:
    """The pid of the supervising process, once the script has said `up`."""
    await plane.until(lambda: "up" in seen.log, 30)  # type: ignore[attr-defined]
    process = next((agents.directory / "runs").glob("*/control/process"))
    return int(process.read_text().split()[0])


async def _until(wanted: object, seconds: float = 15.0) -> None:
    """For what no report tells: polled."""
    deadline = time.monotonic() + seconds
    while not wanted():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
