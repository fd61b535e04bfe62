"""Idempotency-Key -> command id.

The key is bound to the caller and to the workspace, so that nobody gets the answer to another tenant's request. A UUIDv7 keeps
its time, by which the log tells a key that is too old (`key_expired`); any other key is simply new after seven days.
"""

from __future__ import annotations

import hashlib
import json

from adapters.http.limits import Headers
from adapters.http.problems import malformed
from core.ids import CommandId, uuid7, uuid7_unix_ms
from core.ports import Clock

KEY_CHARS_MAX = 255


def command_id(headers: Headers, actor: str, workspace: str, clock: Clock) -> CommandId:
    """The command that this request is. Raises: Problem 400."""
    given = headers.get(b"idempotency-key")
    if given is None:
        return CommandId(uuid7(int(clock.now().timestamp() * 1000), clock.random(10)))
    if len(given) != 1 or not 1 <= len(given[0]) <= KEY_CHARS_MAX or not all(32 < byte < 127 for byte in given[0]):
        raise malformed(f"Idempotency-Key is one text of 1 to {KEY_CHARS_MAX} printable ASCII characters.", code="bad_idempotency_key")
    key = given[0].decode("ascii")
    bound = hashlib.sha256(json.dumps(["http", actor, workspace, key]).encode()).digest()
    time = uuid7_unix_ms(key)
    return CommandId(bound.hex() if time is None else uuid7(time, bound[:10]))


def request_hash(method: str, segments: tuple[str, ...], query: bytes, body: bytes) -> str:
    """What was asked, so that the same key with something else is noticed."""
    digest = hashlib.sha256()
    for part in (method.encode(), "/".join(segments).encode(), query, body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def part_of(command: CommandId, part: str) -> CommandId:
    """The command id of one step of a request that takes several commits."""
    time = uuid7_unix_ms(command)
    bound = hashlib.sha256(f"{command}|{part}".encode()).digest()
    return CommandId(bound.hex() if time is None else uuid7(time, bound[:10]))
