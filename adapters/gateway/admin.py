"""A few questions over Envoy's admin socket (0600, Envoy's user and root only)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

ANSWER_BYTES_MAX = 4 * 1024 * 1024
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Which version of a watched file Envoy serves, and how many it has refused."""

    version: str
    rejected: int


async def is_live(socket: Path) -> bool:
    """Whether Envoy has its first configuration and takes requests."""
    try:
        status, _ = await get(socket, "/ready")
    except (OSError, TimeoutError, ValueError):
        return False
    return status == 200


async def taken(socket: Path, subject: str) -> Taken:
    """Asks for `subject`, such as `cluster_manager.cds`. Raises: OSError, TimeoutError, ValueError when Envoy does not answer."""
    _, body = await get(socket, f"/stats?format=json&filter=^{subject.replace('.', '[.]')}[.](version_text|update_rejected)$")
    version, rejected = "", 0
    for entry in json.loads(body)["stats"]:
        name = entry.get("name", "")
        if name.endswith(".version_text"):
            version = str(entry["value"])
        elif name.endswith(".update_rejected"):
            rejected = int(entry["value"])
    return Taken(version, rejected)


async def get(socket: Path, path: str) -> tuple[int, bytes]:
    """One GET. Raises: OSError, TimeoutError, ValueError."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
            answer = await _whole(reader)
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body


async def _whole(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await reader.read(65536):
        parts.append(chunk)
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            raise ValueError("the admin socket's answer is too long")
    if not parts:
        raise ValueError("the admin socket gave no answer")
    return b"".join(parts)


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        parts.append(rest[:length])
        body = rest[length + 2:]
    return b"".join(parts)
