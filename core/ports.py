"""The seams. Each Protocol is a promise that every adapter keeps, shown by one contract suite."""

from __future__ import annotations

from asyncio import Future
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from core.events import Event, Recorded
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId


class Clock(Protocol):
    """Time and randomness, handed in so that a replay and a simulation can hand in theirs."""

    def now(self) -> datetime:
        """The time now, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    def random(self, count: int) -> bytes:
        """`count` bytes nobody can guess."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who wants it, because of what, under which command id."""

    actor: ActorId
    command: CommandId
    correlation: str
    causation: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class StreamWrite:
    stream: Stream
    expected_version: int
    """The version the stream must be at; 0 when it must not exist."""
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """All or nothing, over one or more streams of one workspace."""

    workspace: WorkspaceId
    context: Context
    request_hash: str
    """SHA-256 hex of what was asked; the same command id with another hash is CommandReused."""
    writes: tuple[StreamWrite, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """What the log holds for a commit. `again` when the command id was there already: these are the events of that time."""

    position: Position
    recorded: tuple[Recorded, ...]
    again: bool = False


class EventLog(Protocol):
    """The event store. Both real adapters and the memory twin pass tests/contract/event_log.py."""

    @property
    def id(self) -> str:
        """Names this log in positions; another log has another id."""
        ...

    @property
    def shards(self) -> int:
        """How many shards this log has; fixed when it was made."""
        ...

    def append(self, commit: Commit) -> Future[Committed]:
        """Takes the commit's place in its shard's order *now*, at the call; the awaitable is the durable answer.

        So a caller may append what depends on an earlier append before that one is answered: they share a group or follow it,
        and when one records nothing (it is refused, fails, or was there already), all that its workspace appended after it
        and before its answer fails too, with Unavailable; when the group cannot be written, all of the shard does. Only
        EventTooLarge and KeyExpired are known at the call and touch nobody else. Cancelling the awaiting task cancels no
        commit. A command id that is in the log with the same request hash answers what the log holds, with `again` set, and
        records nothing.

        Raises (from the awaitable): VersionConflict, CommandReused, KeyExpired, EventTooLarge, Unavailable, OutcomeUnknown.
        """
        ...

    async def read(self, workspace: WorkspaceId, stream: Stream, after: int = 0) -> Sequence[Recorded]:
        """The durable events of one stream with a version over `after`, in order. Empty when there is no such stream."""
        ...

    async def find(self, workspace: WorkspaceId, command: CommandId, request_hash: str) -> Committed | None:
        """What the log holds for a command id, or None. Raises: CommandReused, KeyExpired."""
        ...

    async def ends(self) -> Mapping[int, int]:
        """Per shard the *next* offset after its last durable record. Offsets may have holes."""
        ...

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[Batch]:
        """Batches of each shard from the given next offsets (0: from the beginning), each in order, commits never split.

        Exactly the shards that `start` names are followed. With `follow` false it ends at what is durable when the call is made.
        A batch over `batch_max` occurs when a single commit is larger. A record that cannot be read comes in its place, as
        core.events.Unreadable; one without an envelope of ours belongs to no workspace and is left out, with an alarm. Close
        the iterator (`aclose`) to end the subscription.
        """
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one shard. `next_offset` is the checkpoint after it, past markers and holes."""

    shard: int
    recorded: tuple[Recorded, ...]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Gained:
    shard: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Lost:
    shard: int


class Shards(Protocol):
    """Which shards this server writes."""

    def changes(self) -> AsyncIterator[Gained | Lost]:
        """First what is held now, then each change. A shard is Gained only once it can be written."""
        ...

    def epoch(self, shard: int) -> int | None:
        """The epoch under which this server owns the shard right now, or None; actors ask right before an outside call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementBatch:
    """Points or log lines of one source. Idempotent by (run, source, sequence); never one record per point."""

    workspace: WorkspaceId
    run: str
    attempt: int
    source: str
    """`<attempt>/<spool id>`; its sequence 1, 2, 3 ... is persisted by the sender, which sends the next after the ack."""
    sequence: int
    kind: str
    """`points`, `system` (both columnar, see foldline.wire.measurements) or `log`."""
    body: bytes
    """zstd-compressed JSON columns for points; for `log` zstd-compressed bytes of the log from `log_offset` on."""
    log_name: str | None = None
    log_offset: int | None = None
    log_bytes: int | None = None
    sha256: str = ""
    """Of the body as the sender posted it, before compression; hex. What the digest of its source is chained over."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A stored measurement batch with its place in the measurements topic."""

    batch: MeasurementBatch
    at: datetime
    position: Position


class Measurements(Protocol):
    """The log of measurements: `foldline.measurements` on Kafka, the table `measurement` on Postgres."""

    @property
    def id(self) -> str:
        """Names this log in positions; never the id of an event log."""
        ...

    @property
    def shards(self) -> int:
        """How many shards it has; fixed when it was made."""
        ...

    async def append(self, batch: MeasurementBatch) -> Position:
        """Durable when it returns. A doubled sequence may be stored twice; read models count it once. Raises: Unavailable."""
        ...

    async def ends(self) -> Mapping[int, int]: ...

    def subscribe(self, start: Mapping[int, int], *, batch_max: int = 500, follow: bool = True) -> AsyncIterator[MeasuredBatch]: ...


@dataclass(frozen=True, slots=True)
class MeasuredBatch:
    shard: int
    measured: tuple[Measured, ...]
    next_offset: int


class Blobs(Protocol):
    """Content-addressed files of one workspace. A key is the SHA-256 of the content; nobody supplies a path."""

    async def missing(self, workspace: WorkspaceId, digests: Sequence[str]) -> Sequence[str]:
        """Those of `digests` that the store has not got."""
        ...

    async def put(self, workspace: WorkspaceId, digest: str, chunks: AsyncIterator[bytes], bytes_max: int) -> int:
        """Stores a stream of bytes, visible only when complete and right; returns its size.

        Raises: Invalid when the digest does not match, EventTooLarge over `bytes_max`.
        """
        ...

    async def put_bytes(self, workspace: WorkspaceId, content: bytes) -> str:
        """Stores small content; returns its digest."""
        ...

    def open(self, workspace: WorkspaceId, digest: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Raises: NotFound."""
        ...

    async def size(self, workspace: WorkspaceId, digest: str) -> int | None: ...

    async def read_bytes(self, workspace: WorkspaceId, digest: str, bytes_max: int = 64 * 1024 * 1024) -> bytes: ...


class Vault(Protocol):
    """Secrets, encrypted at rest (AES-GCM, one key file 0600). The log holds references only."""

    async def put(self, workspace: WorkspaceId, reference: str, secret: bytes) -> None: ...

    async def get(self, workspace: WorkspaceId, reference: str) -> bytes | None: ...

    async def delete(self, workspace: WorkspaceId, reference: str) -> None: ...

    def derive(self, purpose: str, text: str) -> str:
        """A MAC (hex HMAC-SHA-256) under the vault's key: tokens of runs and nodes are made and checked with it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrder:
    """A node that a compute wants. Idempotent by `node`; a lower `epoch` than one seen is refused."""

    workspace: WorkspaceId
    compute: str
    node: str
    epoch: int
    settings: Mapping[str, str] = field(default_factory=dict)


class Nodes(Protocol):
    """A provider of machines: starts and stops agents. Local nodes in this issue; SSH, Slurm and others later."""

    async def start(self, order: NodeOrder, token: str) -> None:
        """Makes the node exist; the same order twice makes one. `token` is the node's own, handed over unseen by others."""
        ...

    async def stop(self, workspace: WorkspaceId, node: str, epoch: int) -> None:
        """Makes the node gone, with all that it runs. A node that is gone already is fine."""
        ...

    async def list(self) -> Sequence[tuple[WorkspaceId, str]]:
        """The nodes that exist now, whoever wanted them: the repair compares them with what is wanted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOrder:
    """One copy of a deployment that should run. Idempotent by `replica`."""

    workspace: WorkspaceId
    endpoint: str
    deployment: str
    revision: int
    replica: str
    epoch: int
    model: str
    model_version: int
    model_manifest: str
    code_manifest: str
    scoring_script: str
    environment_key: str
    python: str
    packages: tuple[str, ...]
    environment_variables: Mapping[str, str]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    workspace: WorkspaceId
    endpoint: str
    deployment: str
    revision: int
    replica: str
    phase: str
    """starting | ready | failed | stopped"""
    reason: str
    address: str
    """The Unix socket that the gateway sends requests to, once ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    deployment: str
    weight: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the gateway serves for one endpoint."""

    workspace: WorkspaceId
    workspace_name: str
    endpoint: str
    keys: tuple[str, ...]
    backends: tuple[Backend, ...]
    timeout_seconds: float = 60.0


class Serving(Protocol):
    """Runs replicas of deployments (the pool beside the server in this issue)."""

    async def start(self, order: ReplicaOrder) -> None:
        """Starts the replica if it is not there; returns at once, progress is seen in `list` and `changed`."""
        ...

    async def stop(self, workspace: WorkspaceId, replica: str, epoch: int, drain_seconds: float) -> None: ...

    async def list(self) -> Sequence[ReplicaStatus]: ...

    async def changed(self) -> None:
        """Returns when some replica's status has changed since the last call."""
        ...

    async def logs(self, workspace: WorkspaceId, endpoint: str, deployment: str, lines_max: int) -> Sequence[str]: ...


class Gateway(Protocol):
    """The proxy in front of all endpoints."""

    async def apply(self, routes: Sequence[Route]) -> None:
        """Makes exactly these routes served; returns once the proxy has taken them. The same routes twice change nothing."""
        ...

    def scoring_uri(self, workspace_name: str, endpoint: str) -> str: ...
