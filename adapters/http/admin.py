"""What only administrators do, and the first administrator."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import structlog
from starlette.responses import Response

from adapters.http.access import API
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.services import Services
from adapters.http.tokens import sha256_of, user_token
from core.ids import SYSTEM, ActorId, CommandId, uuid7
from core.ports import Context
from core.users import CreateToken, CreateUser
from foldline.wire.shapes import Answer

ADMIN_NAME = "admin"
TOKEN_FILE = "admin-token"  # noqa: S105  a file's name

log = structlog.get_logger("foldline.http")


class RebuiltModel(Answer):
    model: str
    rows: int
    before: str
    after: str
    identical: bool


class Rebuilt(Answer):
    """Each read model, with the digest of its rows before and after."""

    models: list[RebuiltModel]
    events: int
    seconds: float


async def rebuild(call: Call) -> Response:
    """Replays the log into new tables, compares them with the old ones and puts them in their place. Reads go on meanwhile."""
    report = await call.services.rebuilder.rebuild()
    models = [
        RebuiltModel(model=one.model, rows=one.rows, before=one.before, after=one.after, identical=one.identical) for one in report.models
    ]
    return call.answer(Rebuilt(models=models, events=report.events, seconds=report.seconds))


async def ensure_admin(services: Services, secrets_dir: Path) -> Path:
    """The file with the first administrator's token, which only its owner can read.

    The token is recorded before the file is written: a start that was killed in between leaves no file, and the next makes
    another token for the same person.
    """
    path = secrets_dir / TOKEN_FILE
    if await asyncio.to_thread(path.exists):
        return path
    random = services.clock.random
    known = await services.people.find(ADMIN_NAME)
    user = known.user if known is not None else f"u-{random(8).hex()}"
    token = f"t-{random(5).hex()}"
    whole = user_token(user, token, random(32).hex())
    await services.people.put(user, ADMIN_NAME, None)
    await _command(services, CreateUser(user=user, admin=True))
    await _command(services, CreateToken(user=user, token=token, sha256=sha256_of(whole), label="admin-token"))
    await asyncio.to_thread(_write_secret, path, whole)
    log.info("http.admin_made", user=user)
    return path


async def _command(services: Services, command: Any) -> None:
    clock = services.clock
    identifier = CommandId(uuid7(int(clock.now().timestamp() * 1000), clock.random(10)))
    await services.executor.execute(SYSTEM, command, Context(actor=ActorId("system"), command=identifier, correlation=identifier))


def _write_secret(path: Path, text: str) -> None:
    """A new file of 0600, never through a link, durable before it is used."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


ROUTES = (
    Route(method="POST", path=f"{API}/admin/read-models/rebuild", handler=rebuild, summary="Drop all read models and replay the log",
          answer=Rebuilt),
)
