"""From an assignment to an order for a supervising process: code, environment, variables, command, sandbox, limits."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldline.node import supervise, surroundings
from foldline.node.cgroups import Cgroups
from foldline.node.environments import BuiltEnvironment, EnvironmentCache, EnvironmentFailed, Progress
from foldline.node.folder import AttemptFolder, write_private
from foldline.node.http import Server
from foldline.node.launcher import Launcher
from foldline.node.sandbox import Sandbox, local_sources, starter
from foldline.node.settings import Settings
from foldline.node.snapshot import SnapshotCache, SnapshotFailed
from foldline.node.watch import FileWatch

EXEC_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
"""Of bubblewrap and setpriv, which run as root: nothing that a user chose."""


class PreparationFailed(Exception):
    """`str()` is a sentence for the person who submitted the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the attempts of one agent share."""

    settings: Settings
    server: Server
    sandbox: Sandbox
    cgroups: Cgroups
    environments: EnvironmentCache
    snapshots: SnapshotCache
    launcher: Launcher
    watch: FileWatch
    uids: range
    etc: Path
    package: Path
    variables: Mapping[str, str]
    """Certificate, pip and uv settings of the node that scripts get too."""
    grace_seconds: float
    background: Callable[[Coroutine[None, None, None]], object]
    """Runs something that no attempt waits for, in the agent's task group."""

    def uid(self, slot: int) -> int:
        return self.uids[0] if len(self.uids) == 1 else self.uids[1 + slot]

    @property
    def sandbox_text(self) -> str:
        return f"{self.sandbox.text}; {self.cgroups.text}"[:500]


async def prepare(node: Node, folder: AttemptFolder, assignment: Mapping[str, Any], slot: int, progress: Progress) -> None:
    """Makes all that the script needs and writes the order down; from then on the script may start, once. Raises: PreparationFailed."""
    begin = time.monotonic()
    uid = node.uid(slot)
    try:
        folder.lay_out()
        async with asyncio.TaskGroup() as group:
            group.create_task(_code(node, folder, assignment, uid))
            ensuring = group.create_task(node.environments.ensure(
                assignment["environment_key"], assignment.get("python", ""), assignment.get("packages", []), progress,
            ))
        built = ensuring.result()
        await node.environments.copy_for(built.key, folder.run / "environment", uid)
        order = _order(node, folder, assignment, slot)
    except* (SnapshotFailed, EnvironmentFailed, surroundings.SurroundingsFailed) as failed:
        raise PreparationFailed(str(_first(failed))) from None
    except* OSError as failed:
        raise PreparationFailed(f"The node could not prepare the run: {_first(failed)}") from None
    (folder.control / "std_log.txt").touch(mode=0o600)
    write_private(folder.control / "started.json", json.dumps(_started(node, built, time.monotonic() - begin)).encode())
    write_private(folder.control / "lock.txt", built.lock_text.encode())
    write_private(folder.control / "order", order)


async def _code(node: Node, folder: AttemptFolder, assignment: Mapping[str, Any], uid: int) -> None:
    if assignment.get("snapshot"):
        await node.snapshots.lay_out(node.server, assignment["workspace"], assignment["snapshot"], folder.run / "code")
    for name, kind in assignment.get("outputs", {}).items():
        if kind != "uri_file":
            (folder.run / "named-outputs" / name).mkdir(mode=0o755)
    node.sandbox.own(folder.run, uid)


def _order(node: Node, folder: AttemptFolder, assignment: Mapping[str, Any], slot: int) -> bytes:
    run, uid, slots = folder.run, node.uid(slot), int(assignment.get("slots", 1))
    outputs = {name: str(run / "named-outputs" / name) for name in assignment.get("outputs", {})}
    places = surroundings.Places(
        code=str(run / "code"), home=str(run / "home"), temporary=str(run / "tmp") if node.sandbox.kind == "none" else "/tmp",  # noqa: S108
        spool=str(run / "spool" / "points.jsonl"), environment=str(run / "environment"), package=str(node.package), outputs=outputs,
    )
    text = surroundings.command(assignment["command"], assignment.get("inputs", {}), outputs, assignment["run"])
    environment = surroundings.variables(assignment, places, server=node.server.url, settings=node.variables)
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    command = starter(run / "start", environment, [shell, "-c", text], uid)
    limited = "pids" in node.cgroups.parents
    argv = node.sandbox.argv(
        command, folder=run / "code", read_only=[node.package, *local_sources(node.variables)], writable=[run], uid=uid,
        temporary=run / "tmp", etc=node.etc,
        processes_max=None if limited or os.getuid() != 0 else node.settings.pids_max * slots,
    )
    cgroups = node.cgroups.make(
        folder.cgroup, pids_max=node.settings.pids_max * slots, memory_bytes=node.settings.memory_bytes * slots,
    )
    return supervise.encode({
        "control": [str(folder.control)], "folder": [str(run / "code")], "argv": argv, "environment": list(EXEC_ENVIRONMENT),
        "cgroups": cgroups, "uid": [str(uid)], "grace": [str(node.grace_seconds)],
        "time_limit": [str(assignment.get("time_limit_seconds") or 0)],
        "lease": ["1" if assignment.get("retries_on_node_lost", 0) > 0 else "0"],
        "log_bytes_max": [str(node.settings.log_bytes_max)],
    })


def _started(node: Node, built: BuiltEnvironment, seconds: float) -> dict[str, Any]:
    return {
        "environment_key": built.key, "environment_cached": built.cached, "sandbox": node.sandbox_text,
        "preparing_seconds": round(seconds, 4),
    }


def _first(failed: BaseException) -> BaseException:
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    return failed
