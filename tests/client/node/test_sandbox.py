"""Scripts that try to get out, under a real agent in the real sandbox: refused, and the node goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from foldline.node.cgroups import Cgroups
from foldline.node.sandbox import Sandbox, local_sources, scrubbed_environment, starter, uids_for
from tests.client.node.conftest import Agents
from tests.client.node.control_plane import ControlPlane

ATTACK = Path(__file__).with_name("attack.py").read_bytes()
SINGLE = ("mknod", "mount", "setuid", "chroot", "reboot")


@pytest.fixture
def secret(agents: Agents) -> Path:
    path = agents.folder / "admin-token"
    path.write_text("flu_admin:SECRET")
    path.chmod(0o600)
    return path


async def _attack(plane: ControlPlane, agents: Agents, secret: Path) -> dict[str, object]:
    process = await agents.start(slots=2)
    other = await plane.assign("echo mine > outputs/private; sleep 4", run="other-run")
    await plane.until(lambda: other.started, 30)
    runs = agents.directory / "runs"
    secrets = {
        "files": {
            "config": str(agents.folder / "config.json"),
            "secret": str(secret),
            "shadow": "/etc/shadow",
            "root's file": "/root/.bashrc",
            "other run": str(runs / "other-run.1/run/code/outputs/private"),
            "other assignment": str(runs / "other-run.1/assignment.json"),
            "own assignment": str(runs / "attack.1/assignment.json"),
            "own control": str(runs / "attack.1/control/order"),
            "agent's environment": f"/proc/{process.pid}/environ",
            "disk": "/dev/vda",
            "memory": "/dev/mem",
            "kernel": "/proc/kcore",
        },
        "folders": {
            "runs": str(runs),
            "node": str(agents.directory),
            "root's home": "/root",
            "server's data": "/var/lib/foldline",
            "agent": f"/proc/{process.pid}",
            "cache": str(agents.cache / "environments"),
            "cgroups": "/sys/fs/cgroup",
        },
        "agent": process.pid,
        "abstract": "/foldline",
    }
    seen = await plane.assign(
        'python attack.py "$SECRETS"',
        run="attack",
        files={"attack.py": ATTACK},
        environment_variables={"SECRETS": json.dumps(secrets)},
    )
    ended = await plane.over(seen)
    assert ended.outcome == "completed", seen.log
    await plane.over(other)
    return dict(json.loads(seen.log.splitlines()[-1]))


async def test_every_way_out_is_refused(plane: ControlPlane, agents: Agents, secret: Path) -> None:
    found = await _attack(plane, agents, secret)
    print(json.dumps(found, indent=1))
    assert found["capabilities"] == ["0000000000000000"] * 5
    assert found["no_new_privileges"] == "1"
    assert (int(str(found["uid"])) >= 210_000 or os.getuid() != 0)
    assert found["gid"] == found["uid"] and found["groups"] in ([], [found["uid"]])
    assert len(list(found["processes"])) < 8  # type: ignore[call-overload]
    assert not any("foldline-node" in str(path) and "run/" not in str(path) for path in found["open_files"])  # type: ignore[attr-defined]
    listed = {name: answer for name, answer in found.items() if name.startswith("list ")}
    assert all(str(answer).startswith("refused") for name, answer in listed.items() if name not in ("list runs", "list node")), listed
    assert listed["list runs"] == "['attack.1']" and listed["list node"] == "['runs']", "only the mount points of its own folder"
    tried = {name: answer for name, answer in found.items() if isinstance(answer, str) and (" " in name or name in SINGLE)}
    got = {name: answer for name, answer in tried.items() if not answer.startswith("refused") and not name.startswith("list ")}
    assert len(tried) > 30 and got == {}
    assert found["stderr by name"] is True
    assert all(found["own files"].values())  # type: ignore[attr-defined]


async def test_a_fork_bomb_is_limited_and_the_node_goes_on(plane: ControlPlane, agents: Agents) -> None:
    if not Cgroups.probe().parents:
        assert os.getuid() != 0, "root finds cgroups here"
        return  # nothing limits the scripts of an ordinary user; the run's `sandbox` text says so
    await agents.start(pids_max=48)
    script = b"""
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
        made += 1
except OSError as problem:
    print("limited after", made, type(problem).__name__)
"""
    seen = await plane.assign("python bomb.py", files={"bomb.py": script}, run="bomb")
    assert (await plane.over(seen)).outcome == "completed"
    assert "limited after" in seen.log and int(seen.log.split()[2]) < 48
    after = await plane.assign("echo well", run="after")
    assert (await plane.over(after)).outcome == "completed"


async def test_a_script_that_fills_the_memory_ends_and_the_node_goes_on(plane: ControlPlane, agents: Agents) -> None:
    if not Cgroups.probe().parents:
        assert os.getuid() != 0, "root finds cgroups here"
        return  # nothing limits the scripts of an ordinary user; the run's `sandbox` text says so
    await agents.start(memory_bytes=200 << 20)
    seen = await plane.assign("python -c \"x = bytearray(600 << 20); print('got it')\"", run="hungry")
    ended = await plane.over(seen)
    assert (ended.outcome, ended.reason) == ("failed", "out_of_memory"), seen.log
    assert "200 MiB" in ended.message and "got it" not in seen.log
    assert (await plane.over(await plane.assign("echo well", run="after"))).outcome == "completed"


async def test_daemons_of_a_script_end_with_it(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("setsid nohup sleep 71.5 > /dev/null 2>&1 & disown; (setsid sleep 71.5 &); echo left")
    assert (await plane.over(seen)).outcome == "completed"
    assert subprocess.run(["pgrep", "-f", "sleep 71.5"], capture_output=True).returncode == 1


async def test_what_is_no_plain_file_in_outputs_is_left_out_and_named(plane: ControlPlane, agents: Agents, secret: Path) -> None:
    await agents.start()
    seen = await plane.assign(
        f"ln -s {secret} outputs/secret; ln -s /etc outputs/etc; mkfifo outputs/pipe; mkdir outputs/deep; "
        "ln -s ../../../control outputs/deep/up; "
        "echo good > outputs/good; ln -s good outputs/alias; ln -s /etc/passwd logs/passwd",
    )
    ended = await plane.over(seen)
    kept = set(plane.outputs(seen)) - {"system_logs/environment.txt"}
    assert kept == {"outputs/good", "user_logs/std_log.txt"}
    for name in ("outputs/secret", "outputs/etc", "outputs/pipe", "outputs/deep/up", "logs/passwd"):
        assert f"'{name}' was not kept" in ended.message
    assert not any(b"SECRET" in blob for blob in plane.blobs.values())


async def test_outputs_replaced_by_a_link_give_nothing_away(plane: ControlPlane, agents: Agents, secret: Path) -> None:
    await agents.start()
    seen = await plane.assign(f"rm -r outputs; ln -s {secret.parent} outputs; rm -r ../spool; ln -s {secret.parent} ../spool")
    ended = await plane.over(seen)
    assert ended.outcome == "completed" and "'outputs' was not kept: it is a symbolic link." in ended.message
    assert not any(b"SECRET" in blob for blob in plane.blobs.values())


async def test_the_log_cannot_be_truncated_by_its_script(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign('echo first; echo second > /dev/stdout; python -c "import os; os.ftruncate(1, 0)" 2> /dev/null; echo third')
    await plane.over(seen)
    assert seen.log == "first\nsecond\nthird\n"
    plane.check_complete(seen)


async def test_pip_works_in_a_run_and_the_cache_stays_clean(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign(
        "pip install -q six && python -c 'import six; print(six.__name__)' && pip uninstall -q -y six setuptools", run="one"
    )
    assert (await plane.over(seen)).outcome == "completed", seen.log
    assert seen.log.strip().endswith("six")
    after = await plane.assign("python -c 'import setuptools; print(1)'; python -c 'import six'", run="two")
    ended = await plane.over(after)
    assert ended.exit_code == 1 and after.log.startswith("1\n") and "No module named 'six'" in after.log


async def test_variables_of_a_job_never_reach_the_programs_that_run_as_root(plane: ControlPlane, agents: Agents) -> None:
    """LD_PRELOAD in the exec of bwrap would be the end of the sandbox."""
    await agents.start()
    seen = await plane.assign("echo up; echo $LD_PRELOAD; sleep 0.3", environment_variables={"LD_PRELOAD": "/code/evil.so"})
    await plane.until(lambda: "up" in seen.log, 30)
    order = next((agents.directory / "runs").glob("*/control/order")).read_bytes()
    assert b"LD_PRELOAD" not in order and b"evil.so" not in order and b"RUNSECRET" not in order
    await plane.over(seen)
    assert "/code/evil.so" in seen.log


async def test_nobody_on_the_machine_sees_the_runs_token_in_a_command_line(plane: ControlPlane, agents: Agents) -> None:
    await agents.start()
    seen = await plane.assign("echo up; sleep 1")
    await plane.until(lambda: "up" in seen.log, 30)
    lines = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
    assert "RUNSECRET" not in lines
    await plane.over(seen)


def test_two_directories_never_share_a_uid(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    if os.getuid() != 0:
        assert uids_for(one) == uids_for(two) == range(os.getuid(), os.getuid() + 1)
        return
    assert not set(uids_for(one)) & set(uids_for(two))
    assert uids_for(one) == uids_for(one)
    first = uids_for(one)
    one.rmdir()
    three = tmp_path / "three"
    three.mkdir()
    assert uids_for(three) == first, "a block is free again once its directory is gone"


def test_without_bubblewrap_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, *_, **__: None)
    found = Sandbox.probe()
    assert found.kind == "none" and "bubblewrap is not installed" in found.text


async def test_a_run_without_bubblewrap_has_a_scrubbed_environment_and_says_so(
    plane: ControlPlane,
    agents: Agents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tools = agents.folder / "tools"
    tools.mkdir()
    for name in ("setpriv", "prlimit", "bash", "sh", "env", "id", "nvidia-smi"):
        if (there := shutil.which(name)) is not None:
            (tools / name).symlink_to(there)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("FOLDLINE_SECRET_OF_THE_NODE", "SECRET")
    await agents.start(python="/usr/bin/python3.11")
    seen = await plane.assign("env; id -u; setsid sleep 72.5 & echo x > outputs/x")
    ended = await plane.over(seen)
    assert ended.outcome == "completed", (ended, seen.log)
    assert "no sandbox" in seen.started[0].sandbox and "bubblewrap is not installed" in seen.started[0].sandbox
    assert "SECRET_OF_THE_NODE" not in seen.log
    if os.getuid() == 0:
        assert "\n0\n" not in seen.log
    assert subprocess.run(["/usr/bin/pgrep", "-f", "sleep 72.5"], capture_output=True).returncode == 1


def test_a_scrubbed_environment_keeps_certificates_and_pip_and_nothing_else() -> None:
    kept = scrubbed_environment(
        {
            "SSL_CERT_FILE": "/c",
            "PIP_INDEX_URL": "i",
            "UV_INDEX": "u",
            "https_proxy": "p",
            "AWS_SECRET_ACCESS_KEY": "s",
            "UV_CACHE_DIR": "/root",
            "PATH": "/root/bin",
            "HOME": "/root",
            "PYTHONPATH": "/x",
        }
    )
    assert kept == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SSL_CERT_FILE": "/c",
        "PIP_INDEX_URL": "i",
        "UV_INDEX": "u",
        "https_proxy": "p",
    }


def test_local_folders_that_pip_is_told_of_are_shown(tmp_path: Path) -> None:
    assert local_sources({"PIP_FIND_LINKS": f"{tmp_path} https://x/y", "SSL_CERT_FILE": "/not/there"}) == [tmp_path]


def test_a_start_file_hands_over_any_value_and_is_its_users_alone(tmp_path: Path) -> None:
    nasty = "a'b\"$(id)`x`\nnew\\ line $HOME ü"
    command = starter(tmp_path / "start", {"NASTY": nasty, "UID": "7", "bad-name": "x"}, ["/usr/bin/env", "-0"], os.getuid())
    said = subprocess.run(command, env={}, capture_output=True, check=True)
    assert f"NASTY={nasty}".encode() in said.stdout.split(b"\0") and b"bad-name" not in said.stdout and not said.stderr
    assert (tmp_path / "start").stat().st_mode & 0o777 == 0o400
