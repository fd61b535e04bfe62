"""One request, as a handler sees it: its caller, its path, query and body, checked; its command; its answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import Scope

from adapters.http import idempotency, limits, positions
from adapters.http.live import Live
from adapters.http.paging import Cursors
from adapters.http.problems import Problem, malformed, scrub
from adapters.http.services import Services
from adapters.http.strict_json import check_nul, parse_json
from adapters.http.tokens import Caller, NodeCaller, RunCaller, UserCaller
from core import workspaces
from core.errors import Forbidden, Invalid, NotFound
from core.execute import Done, Rest
from core.ids import SYSTEM, CommandId, Position, Stream, WorkspaceId, shard_of
from core.ports import Context
from foldline.wire.shapes import Page

if TYPE_CHECKING:
    from adapters.http.routing import Route, _Wire

Model = TypeVar("Model", bound=BaseModel)
LIMIT_DEFAULT, LIMIT_MAX = 100, 1000
_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


@dataclass(slots=True, kw_only=True)
class Call:
    services: Services
    caller: Caller | None
    headers: Mapping[bytes, list[bytes]]
    path: Mapping[str, str]
    segments: tuple[str, ...]
    method: str
    query_bytes: bytes
    wire: _Wire
    request_id: str
    route: Route
    workspace_state: workspaces.Active | None
    workspace: WorkspaceId | None
    role: str | None
    scope: Scope
    position: Position | None = None
    """Of the newest commit of this request."""
    content: bytes = b""
    _query: dict[str, list[str]] | None = None
    _command: CommandId | None = None
    headers_out: dict[str, str] = field(default_factory=dict)
    live: Live
    recheck: Callable[[], Awaitable[None]]
    """Raises what the request would be refused with by now: long answers ask it every few seconds."""

    # -- who and where -------------------------------------------------------------------------------------------------
    @property
    def home(self) -> WorkspaceId:
        """The workspace of the path; the table of access has seen to it that there is one."""
        if self.workspace is None:
            raise Forbidden(None, "a workspace")
        return self.workspace

    @property
    def user(self) -> UserCaller:
        if not isinstance(self.caller, UserCaller):
            raise Forbidden(None, "user")
        return self.caller

    @property
    def node(self) -> NodeCaller:
        if not isinstance(self.caller, NodeCaller):
            raise Forbidden(None, "node")
        return self.caller

    @property
    def is_run(self) -> bool:
        return isinstance(self.caller, RunCaller)

    # -- query ---------------------------------------------------------------------------------------------------------
    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's fields. Raises: Problem 400, Invalid for a field that the route does not know."""
        if self._query is None:
            self._query = self._parse_query()
        return self._query

    def _parse_query(self) -> dict[str, list[str]]:
        if len(self.query_bytes) > limits.QUERY_BYTES_MAX:
            raise Problem(400, "query_too_long", f"The query is over {limits.QUERY_BYTES_MAX} bytes.")
        try:
            text = self.query_bytes.decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=100)
        except ValueError:
            raise malformed("The query is not valid.", code="bad_query") from None
        found: dict[str, list[str]] = {}
        for name, value in pairs:
            if "\x00" in value:
                raise malformed("The query holds a NUL.", code="bad_query")
            if name not in self.route.query and name not in self.route.repeated:
                allowed = ", ".join((*self.route.query, *self.route.repeated)) or "none"
                raise Invalid(f"There is no query field {name[:100]!r} here; there are: {allowed}.", field=name[:100])
            if name in found and name not in self.route.repeated:
                raise malformed(f"The query field {name!r} is there twice.", code="bad_query")
            found.setdefault(name, []).append(value)
        return found

    def text(self, name: str, chars_max: int = 500) -> str | None:
        given = self.query.get(name)
        if given is None or given[0] == "":
            return None
        if len(given[0]) > chars_max:
            raise Invalid(f"`{name}` has over {chars_max} characters.", field=name)
        return given[0]

    def number(self, name: str, default: int | None, least: int, most: int) -> int | None:
        given = self.text(name, 30)
        if given is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,19}", given) or not least <= int(given) <= most:
            raise Invalid(f"`{name}` must be a whole number from {least} to {most}.", field=name)
        return int(given)

    def flag(self, name: str) -> bool | None:
        given = self.text(name, 5)
        if given not in (None, "true", "false"):
            raise Invalid(f"`{name}` must be true or false.", field=name)
        return None if given is None else given == "true"

    def time(self, name: str) -> datetime | None:
        given = self.text(name, 40)
        if given is None:
            return None
        try:
            at = datetime.fromisoformat(given.replace(" ", "+"))
            at = at if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            at = None
        if at is None or at.tzinfo is None:
            raise Invalid(f"`{name}` must be a time such as 2026-01-31T12:00:00Z.", field=name)
        return at

    def tags(self) -> dict[str, str]:
        """`tag=k=v`, any number of them; `tag=k` asks for the key with an empty value."""
        found: dict[str, str] = {}
        for one in self.query.get("tag", []):
            key, _, value = one.partition("=")
            if not key or len(one) > 6000 or len(found) >= 50:
                raise Invalid("`tag` must be spelled KEY=VALUE, at most 50 of them.", field="tag")
            found[key] = value
        return found

    @property
    def limit(self) -> int:
        return cast(int, self.number("limit", LIMIT_DEFAULT, 1, LIMIT_MAX))

    def _bound_to(self) -> str:
        asked = sorted((name, value) for name, values in self.query.items() if name not in ("cursor", "limit") for value in values)
        return f"{self.workspace}|{'/'.join(self.segments)}|{asked}"

    @property
    def cursor(self) -> str | None:
        """The inner cursor of the page that is asked for. Raises: Problem 400."""
        return Cursors(self.services.vault).open(self.text("cursor", 2000), self._bound_to())

    def page(self, items: list[Any], following: str | None) -> Response:
        return self.answer(Page[Any](items=items, next=Cursors(self.services.vault).seal(following, self._bound_to())))

    # -- body ----------------------------------------------------------------------------------------------------------
    async def read(self, bytes_max: int, media: str | None = "application/json") -> bytes:
        """The raw body. Raises: Problem 415, 413, 408, 400."""
        announced = limits.check_body_headers(self.headers, media)
        self.content = await limits.read_body(self.wire.receive, announced, bytes_max, self.services.settings.body_seconds)
        return self.content

    async def body(self, model: type[Model], bytes_max: int = limits.JSON_BYTES_MAX) -> Model:
        """The JSON body in its shape. Raises: as `read`; Problem 400 for what is not JSON, 422 `invalid_body` with the fields."""
        content = await self.read(bytes_max)
        value = await parse_json(content)
        try:
            made = model.model_validate_json(content)
        except ValidationError as error:
            raise invalid_body(error) from None
        if b"\\u0000" in content:
            check_nul(value)
        return made

    # -- commands ------------------------------------------------------------------------------------------------------
    @property
    def command(self) -> CommandId:
        """This request's command id: from its Idempotency-Key, else made up."""
        if self._command is None:
            actor = self.caller.actor if self.caller is not None else "nobody"
            scope = self.workspace or "system"
            self._command = idempotency.command_id(self.headers, actor, f"{scope}", self.services.clock)
        return self._command

    def derive(self, purpose: str) -> str:
        """64 hex digits that only this server can know, the same for the same command: ids and secrets of what it makes."""
        return self.services.vault.derive(purpose, self.command)

    def context(self, part: str | None = None) -> Context:
        actor = self.caller.actor if self.caller is not None else "system"
        given = self.headers.get(b"traceparent", [])
        trace = given[0].decode("latin-1") if len(given) == 1 else ""
        return Context(
            actor=cast(Any, actor), command=self.command if part is None else idempotency.part_of(self.command, part),
            correlation=self.request_id, traceparent=trace if _TRACEPARENT.match(trace) else None,
        )

    async def execute(
        self, command: Any, *, workspace: WorkspaceId | None = None, part: str | None = None, guard: Stream | None = None,
        closing: bool = False,
    ) -> Done:
        """Decides and waits until it is durable. `guard` is the stream that If-Match speaks of; `part` one step of several.

        In the caller's workspace it is decided only while that exists; `closing` is for what its deletion itself still does.
        """
        expected = None if guard is None else positions.expected_version(self.headers, guard)
        digest = idempotency.request_hash(self.method, self.segments, self.query_bytes, self.content)
        done = await self.services.executor.execute(
            self.home if workspace is None else workspace, command, self.context(part), expected=expected, request_hash=digest,
            rests_on=None if closing or workspace is not None else Rest(workspaces.stream_of(self.home), self._must_exist),
        )
        self.position = done.position
        return done

    def _must_exist(self, state: workspaces.Workspace) -> None:
        if not isinstance(state, workspaces.Active):
            raise NotFound("workspace", self.path.get("workspace", self.home))

    # -- reads ---------------------------------------------------------------------------------------------------------
    async def wait(self, *models: str) -> None:
        """Until the read models are past this request's own commit, else past the caller's Foldline-Position."""
        position = self.position or positions.asked_position(self.headers, self.services.log.id)
        for model in models:
            await self.services.progress.wait(
                model, position, workspace=self.workspace or SYSTEM, timeout_seconds=self.services.settings.wait_seconds,
            )

    async def wait_for_everything(self, *models: str) -> None:
        """Until the read models have all that is durable now: for a write that is decided upon what they say."""
        log = self.services.log
        shard = shard_of(self.home, log.shards)
        newest = Position(log.id, shard, (await log.ends()).get(shard, 0) - 1)
        for model in models:
            await self.services.progress.wait(model, newest, workspace=self.home, timeout_seconds=self.services.settings.wait_seconds)

    async def wait_for_measurements(self, *models: str) -> None:
        """Until the read models have all measurements that are durable now: an agent's ack comes before its lines are read."""
        measurements, patience = self.services.measurements, self.services.settings.wait_seconds
        for shard, end in (await measurements.ends()).items():
            newest = Position(measurements.id, shard, end - 1)
            for model in models:
                await self.services.progress.wait(model, newest, workspace=self.home, timeout_seconds=patience)

    # -- answers -------------------------------------------------------------------------------------------------------
    def answer(self, content: BaseModel | None, status: int | None = None) -> Response:
        status = status or self.route.status
        body = b"" if content is None else content.model_dump_json().encode()
        response = Response(body, 204 if content is None and status == 200 else status, headers=self.extra_headers())
        if content is not None:
            response.headers["Content-Type"] = "application/json"
        return response

    def done(self) -> Response:
        """204."""
        return Response(status_code=204, headers=self.extra_headers())

    def extra_headers(self) -> dict[str, str]:
        made = dict(self.headers_out)
        if self.position is not None:
            made["Foldline-Position"] = self.position.token()
        return made

    async def etag(self, stream: Stream) -> None:
        """Tells the version that If-Match may name."""
        self.headers_out["ETag"] = f'"{await self.services.executor.version(self.home, stream)}"'


def invalid_body(error: ValidationError) -> Problem:
    """422 with what is wrong where, without repeating what was sent."""
    problems: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False, include_context=False)[:20]:
        where = ".".join(str(part)[:60] for part in one["loc"])[:200] or "body"
        problems.setdefault(where, scrub(one["msg"])[:300])
    first = next(iter(problems.items()), ("body", "does not have its shape"))
    return Problem(422, "invalid_body", f"{first[0]}: {first[1]}", problems=problems)
