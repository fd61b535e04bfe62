"""Names, ids and positions. Everything here is made of plain text and numbers; nothing is generated here but UUIDv7."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, NewType

from pydantic import StringConstraints

WorkspaceId = NewType("WorkspaceId", str)
Stream = NewType("Stream", str)          # "<kind>/<id>", e.g. "run/amber-otter-7k2m"
CommandId = NewType("CommandId", str)    # UUIDv7, or sha256 hex for an actor's command
ActorId = NewType("ActorId", str)        # "user/<opaque>", "node/<id>", "run/<id>", "actor/<role>", "system"

SYSTEM = WorkspaceId("system")

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_-])?$"
"""A name: 1 to 255 letters, digits, `_`, `-` and `.`, neither beginning nor ending with a dot, no `..` (checked apart)."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=255)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` may name a thing in Foldline."""
    return bool(_NAME.match(text)) and ".." not in text and not text.endswith("\n")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a commit's last record lies. A read that carries it waits until its read model is past it."""

    log: str
    shard: int
    offset: int

    def token(self) -> str:
        return f"{self.log}:{self.shard}:{self.offset}"

    @classmethod
    def parse(cls, token: str) -> Position:
        """Raises: ValueError when `token` is none of ours."""
        log, shard, offset = token.rsplit(":", 2)
        if not log or len(token) > 200:
            raise ValueError(token)
        return cls(log, int(shard), int(offset))


def shard_of(workspace: WorkspaceId, count: int) -> int:
    """First 8 bytes of SHA-256(workspace id), big endian, mod the count fixed when the log was made."""
    return int.from_bytes(hashlib.sha256(workspace.encode()).digest()[:8], "big") % count


def uuid7(unix_ms: int, random: bytes) -> str:
    """RFC 9562 version 7 from a time in milliseconds and 10 random bytes."""
    value = (unix_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_unix_ms(text: str) -> int | None:
    """The time inside a UUIDv7, or None when `text` is not one."""
    bare = text.replace("-", "")
    if len(text) != 36 or len(bare) != 32 or bare[12] != "7":
        return None
    try:
        return int(bare[:12], 16)
    except ValueError:
        return None


def derived_command(role: str, stream: str, version: int, ordinal: int | str) -> CommandId:
    """An actor's command id: the same wish about the same state is the same command."""
    return CommandId(hashlib.sha256(f"{role}|{stream}|{version}|{ordinal}".encode()).hexdigest())
