"""Asks a worker over its Unix socket whether it is there."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

PROBE_SECONDS = 5.0


async def is_healthy(socket: Path) -> bool:
    """Whether `GET /` on the socket answers 200. A path that is no socket (a link, say) is not asked."""
    try:
        if not stat.S_ISSOCK(socket.lstat().st_mode):  # noqa: ASYNC240  # a single lstat
            return False
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"GET / HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return line.startswith(b"HTTP/1.1 200 ")
