"""Computes and nodes as people see them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from foldline.wire.shapes import Answer, LongText, Name, Request


class ComputeCreate(Request):
    """Azure's fields `min_instances`, `max_instances`, `idle_time_before_scale_down`, under its names."""

    name: Name
    type: Literal["amlcompute"] = "amlcompute"
    provider: Literal["local", "joined"] = "local"
    min_instances: Annotated[int, Field(ge=0, le=1000)] = 0
    max_instances: Annotated[int, Field(ge=1, le=1000)] = 1
    idle_time_before_scale_down: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    slots_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    description: LongText | None = None


class ComputeUpdate(Request):
    min_instances: Annotated[int, Field(ge=0, le=1000)] | None = None
    max_instances: Annotated[int, Field(ge=1, le=1000)] | None = None
    idle_time_before_scale_down: Annotated[float, Field(ge=0, le=86_400)] | None = None


class Compute(Answer):
    name: str
    type: str = "amlcompute"
    provider: str
    status: str
    """steady | resizing | deleting"""
    min_instances: int
    max_instances: int
    idle_time_before_scale_down: float
    slots_per_node: int
    wanted: int
    reason: str | None = None
    """Why it wants that many."""
    nodes: int
    """That are there."""
    nodes_starting: int = 0
    nodes_busy: int = 0
    created_at: datetime
    description: str | None = None


class Node(Answer):
    id: str
    compute: str
    status: str
    """starting | ready | unreachable | releasing | gone"""
    slots: int
    runs: list[str]
    reason: str | None = None
    facts: dict[str, object] = {}
    joined_at: datetime | None = None


class JoinTokenCreate(Request):
    expires_seconds: Annotated[float, Field(gt=0, le=7 * 86_400)] = 3600.0


class JoinToken(Answer):
    """`token` is shown this once and works once. `foldline node join URL --token TOKEN`."""

    token: str
    expires_at: datetime
