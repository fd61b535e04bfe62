"""Recorded events for tests that need no broker."""

from __future__ import annotations

from datetime import UTC, datetime

from core.events import Recorded
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId
from core.workspaces import WorkspaceUpdated

AT = datetime(2026, 11, 23, tzinfo=UTC)


def recorded(offset: int, *, stream: str = "thing/a", version: int = 1, command: str = "c", workspace: str = "ws") -> Recorded:
    return Recorded(
        event=WorkspaceUpdated(workspace="any", description=str(offset)), id=f"{workspace}/{offset + 1}", workspace=WorkspaceId(workspace),
        stream=Stream(stream), version=version, sequence=offset + 1, chain=f"{offset:064x}", at=AT, actor=ActorId("system"),
        correlation="c", causation=None, command=CommandId(command), traceparent=None, position=Position("log", 0, offset),
    )
