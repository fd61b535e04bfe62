"""What the app is given. Constructed in the composition root (adapters/bootstrap.py) and in the tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from core.execute import Executor
from core.ids import Position, WorkspaceId
from core.ports import Blobs, Clock, EventLog, Gateway, Measurements, Serving, Vault

if TYPE_CHECKING:
    from actors.desk import Desk


class Person(Protocol):
    """A row of the people table: the only place where a name and a mail belong to an opaque user id."""

    @property
    def user(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def mail(self) -> str | None: ...


class People(Protocol):
    """Names and mails of people, apart from the log so that they can be deleted."""

    async def put(self, user: str, name: str, mail: str | None) -> None:
        """Makes or replaces the row. Raises: AlreadyExists when another user has that name."""
        ...

    async def get(self, user: str) -> Person | None: ...

    async def find(self, name: str) -> Person | None: ...

    async def names(self, users: Collection[str]) -> Mapping[str, str]: ...

    async def list(self, after: str, limit: int) -> Sequence[Person]:
        """Ordered by name, those over `after`."""
        ...

    async def erase(self, user: str) -> None: ...


class Progress(Protocol):
    """How far each read model is."""

    async def wait(
        self, model: str, position: Position | None = None, timeout_seconds: float = 1.5, workspace: WorkspaceId | None = None,
    ) -> None:
        """Returns once the model is past the position. Raises: Behind, OtherLog, and 503 while the model stands still."""
        ...

    def stopped(self, model: str) -> frozenset[str]:
        """The workspaces for which the model stands still."""
        ...


class Rebuilder(Protocol):
    async def rebuild(self) -> Any:
        """Drops all read models, replays the log, and tells whether the rows are identical."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """Values from adapters/settings.py that the edge needs. Times are seconds."""

    version: str
    public_url: str
    """Without a trailing slash; links in answers begin with it."""
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "[::1]"})
    """Names, without port, under which clients may reach the server; another Host header is refused."""
    log_kind: str = "memory"
    heartbeat_seconds: float = 2.0
    lease_seconds: float = 15.0
    cancel_grace_seconds: float = 10.0
    body_seconds: float = 30.0
    """How long a request's body may keep silent."""
    wait_seconds: float = 1.5
    """How long a read waits for its read models."""
    sse_heartbeat_seconds: float = 15.0
    follower_events_max: int = 1000
    blob_bytes_max: int = 64 * 1024**3
    sandbox: str = ""
    """What the server's own nodes run scripts in; shown by /health."""


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything a handler may use."""

    settings: EdgeSettings
    executor: Executor
    log: EventLog
    measurements: Measurements
    blobs: Blobs
    vault: Vault
    clock: Clock
    pool: Any
    """asyncpg pool of the database with the read models."""
    people: People
    desk: Desk
    progress: Progress
    serving: Serving
    gateway: Gateway
    rebuilder: Rebuilder
    facts: dict[str, str] = field(default_factory=dict)
    """More lines for /health."""
