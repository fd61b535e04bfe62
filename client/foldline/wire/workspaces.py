"""Workspaces, members, users, tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from foldline.wire.shapes import Answer, LongText, Name, Request, Text

Role = Literal["reader", "contributor", "owner"]


class WorkspaceCreate(Request):
    name: Name
    display_name: Text | None = None
    description: LongText | None = None


class WorkspaceUpdate(Request):
    display_name: Text | None = None
    description: LongText | None = None
    default_compute: Name | None = None


class Workspace(Answer):
    id: str
    name: str
    display_name: str | None = None
    description: str | None = None
    default_compute: str | None = None
    role: str | None = None
    """The caller's own."""
    created_at: datetime
    created_by: str


class MemberPut(Request):
    """`PUT /workspaces/{w}/members/{user}`; `user` is an id or a name."""

    role: Role


class Member(Answer):
    user: str
    name: str | None = None
    role: str


class UserCreate(Request):
    name: Name
    mail: Text | None = None
    admin: bool = False


class User(Answer):
    id: str
    name: str | None = None
    mail: str | None = None
    admin: bool = False
    enabled: bool = True
    created_at: datetime | None = None


class UserCreated(User):
    """The first token, shown this once."""

    token: str


class TokenCreate(Request):
    label: Text | None = None
    expires_seconds: Annotated[float, Field(gt=0, le=10 * 365 * 86_400)] | None = None


class Token(Answer):
    id: str
    user: str
    label: str | None = None
    created_at: datetime
    expires_at: datetime | None = None


class TokenCreated(Token):
    """`secret` is shown this once."""

    secret: str


class Me(Answer):
    """Who the caller is."""

    id: str
    kind: Literal["user", "run", "node"]
    name: str | None = None
    admin: bool = False
    server_version: str = ""
