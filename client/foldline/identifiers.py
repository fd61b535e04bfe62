"""Ids that the client makes."""

from __future__ import annotations

import re
import secrets
import time


def uuid7() -> str:
    """A UUIDv7 (RFC 9562) of now: the key under which a write may be sent again without happening twice."""
    value = (time.time_ns() // 1_000_000 & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def traceparent(parent: str = "") -> str:
    """A W3C trace context: a new span of the trace that `parent` names, or of a new trace."""
    if re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent):
        return f"00-{parent[3:35]}-{secrets.token_hex(8)}-{parent[-2:]}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
