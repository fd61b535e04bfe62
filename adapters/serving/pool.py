"""`core.ports.Serving` beside the server: replicas are processes of their own, which a restarted server takes up again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from adapters.serving.content import ContentCache
from adapters.serving.folders import ReplicaFolder, recorded, tail
from adapters.serving.launching import Launcher
from adapters.serving.replica import Kitchen, Replica, keep_log
from core.errors import Conflict, Invalid
from core.ids import WorkspaceId, is_name
from core.ports import Blobs, ReplicaOrder, ReplicaStatus
from foldline.node.cgroups import Cgroups
from foldline.node.environments import EnvironmentCache
from foldline.node.sandbox import Sandbox, uids_for

SOCKET_PATH_MAX = 107
LOGS_KEPT_MAX = 5
BODY_BYTES_MAX = 16 * 1024 * 1024


class ServingPool:
    """An `async with` over it adopts what runs; leaving it lets replicas run on, `shut_down` ends them."""

    def __init__(
        self, directory: Path, *, blobs: Blobs, environments: EnvironmentCache, sandbox: Sandbox, gateway_gid: int | None,
        start_limit_seconds: float = 300.0, body_bytes_max: int = BODY_BYTES_MAX, cgroups: Cgroups | None = None,
    ) -> None:
        self._directory = directory.absolute()
        memory_bytes = psutil.virtual_memory().total
        launcher = Launcher(sandbox, cgroups or Cgroups.probe(), gateway_gid, body_bytes_max, memory_bytes, self._directory / ".foldline")
        self._kitchen = Kitchen(ContentCache(self._directory / ".content", blobs), environments, launcher, start_limit_seconds)
        self._replicas: dict[tuple[WorkspaceId, str], Replica] = {}
        self._epochs: dict[WorkspaceId, int] = {}
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: asyncio.TaskGroup

    async def __aenter__(self) -> Self:
        """Raises: Invalid when the folder's path leaves no room for a Unix socket."""
        if len(str(self._directory / ".sockets" / "0123456789ab" / "worker").encode()) > SOCKET_PATH_MAX:
            raise Invalid(f"The data folder's path is too long for Unix sockets below it: {self._directory}")
        for name in ("", ".sockets", ".foldline", ".content"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
            (self._directory / name).chmod(0o711)
        (self._directory / ".logs").mkdir(exist_ok=True, mode=0o700)
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(self._let_go)
        left = self._left()
        async with asyncio.TaskGroup() as looks:
            for replica in left:
                looks.create_task(replica.recognise())
        for replica in left:
            self._epochs[replica.order.workspace] = max(self._epochs.get(replica.order.workspace, 0), replica.order.epoch)
            self._take_up(replica)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def shut_down(self) -> None:
        """Ends all replicas, without draining; before `async with` those that an earlier server has left."""
        if not self._replicas:
            self._replicas = {(replica.order.workspace, replica.order.replica): replica for replica in self._left()}
        async with asyncio.TaskGroup() as tasks:
            for workspace, replica in tuple(self._replicas):
                tasks.create_task(self.stop(workspace, replica, self._epochs.get(workspace, 0), 0.0))

    async def start(self, order: ReplicaOrder) -> None:
        """Starts the replica if it is not there, and again, after a back-off, if it has failed.

        Raises: Conflict for an epoch under one seen before, or when all uids are taken; Invalid for a name that is none.
        """
        self._saw(order.workspace, order.epoch)
        for name in (order.workspace, order.endpoint, order.deployment, order.replica):
            if not is_name(name):
                raise Invalid(f"{name!r} cannot name a replica.")
        known = self._replicas.get((order.workspace, order.replica))
        if known is not None:
            if known.phase == "failed":
                known.order = order
                known.set_starting()
                self._take_up(known, known.back_off_seconds())
            return
        folder = ReplicaFolder(self._directory, order.workspace, order.endpoint, order.replica)
        self._make(folder)
        uid = self._free_uid()
        folder.record(order, uid)
        self._take_up(Replica(folder, order, uid, self._kitchen, self._news.set))
        self._news.set()

    async def stop(self, workspace: WorkspaceId, replica: str, epoch: int, drain_seconds: float) -> None:
        """Returns once the replica is gone. One that is gone already is fine. Raises: Conflict for an epoch under one seen before."""
        self._saw(workspace, epoch)
        known = self._replicas.get((workspace, replica))
        if known is None:
            return
        async with known.ending:
            if self._replicas.get((workspace, replica)) is not known:
                return
            keep_log(known.folder, self._kept_log(known), LOGS_KEPT_MAX)
            await asyncio.shield(self._ended(known, drain_seconds))

    async def list(self) -> Sequence[ReplicaStatus]:
        return [replica.status for replica in self._replicas.values()]

    async def changed(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def logs(self, workspace: WorkspaceId, endpoint: str, deployment: str, lines_max: int) -> Sequence[str]:
        """The last lines of each of the deployment's replicas, those that are gone first, each under a line that names it."""
        own = [
            replica for replica in self._replicas.values()
            if (replica.order.workspace, replica.order.endpoint, replica.order.deployment) == (workspace, endpoint, deployment)
        ]
        gone = sorted(self._logs_folder(workspace, endpoint, deployment).glob("*.log"), key=lambda path: path.stat().st_mtime)
        parts = [(f"{path.stem} (gone)", tail([path], lines_max)) for path in gone]
        parts += [
            (f"{replica.order.replica} (revision {replica.order.revision}, {replica.phase})", replica.folder.log_lines(lines_max))
            for replica in own
        ]
        lines = [line for name, part in parts if part for line in (f"==> {name} <==", *part)]
        return lines[-lines_max:] if lines_max > 0 else []

    # -- in order ------------------------------------------------------------------------------------------------------
    def _left(self) -> tuple[Replica, ...]:
        return tuple(Replica(folder, order, uid, self._kitchen, self._news.set) for folder, order, uid in recorded(self._directory))

    def _take_up(self, replica: Replica, wait_seconds: float = 0.0) -> None:
        self._replicas[replica.order.workspace, replica.order.replica] = replica
        replica.task = self._tasks.create_task(replica.live(wait_seconds), name=f"replica-{replica.order.replica}")

    async def _ended(self, replica: Replica, drain_seconds: float) -> None:
        await replica.end(drain_seconds)
        self._replicas.pop((replica.order.workspace, replica.order.replica), None)
        used = {
            (one.order.workspace, digest)
            for one in self._replicas.values() for digest in (one.order.model_manifest, one.order.code_manifest)
        }
        await asyncio.to_thread(self._kitchen.content.forget_all_but, used)
        self._news.set()

    def _saw(self, workspace: WorkspaceId, epoch: int) -> None:
        highest = self._epochs.get(workspace, 0)
        if epoch < highest:
            raise Conflict(f"The order is of epoch {epoch}; one of epoch {highest} was seen.", epoch=epoch, highest=highest)
        self._epochs[workspace] = epoch

    def _make(self, folder: ReplicaFolder) -> None:
        folder.control.mkdir(parents=True, exist_ok=True)
        folder.control.chmod(0o700)
        for place in (folder.path, folder.path.parent, folder.path.parent.parent):
            place.chmod(0o711)

    def _free_uid(self) -> int:
        uids = uids_for(self._directory)
        if len(uids) == 1:
            return uids[0]
        taken = {replica.uid for replica in self._replicas.values()}
        free = next((uid for uid in uids if uid not in taken), None)
        if free is None:
            raise Conflict(f"The pool beside the server runs {len(taken)} replicas, as many as it has users for.")
        return free

    def _logs_folder(self, workspace: WorkspaceId, endpoint: str, deployment: str) -> Path:
        return self._directory / ".logs" / workspace / endpoint / deployment

    def _kept_log(self, replica: Replica) -> Path:
        order = replica.order
        return self._logs_folder(order.workspace, order.endpoint, order.deployment) / f"{order.replica}.log"

    def _let_go(self) -> None:
        """Leaves the processes to themselves; only our watching ends."""
        for replica in self._replicas.values():
            if replica.task is not None:
                replica.task.cancel()


