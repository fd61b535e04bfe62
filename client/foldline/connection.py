"""One server over HTTP: credentials, retries under one idempotency key, positions, typed errors.

A request that could not be answered (connection errors, 429, 502, 503, 504) is sent again with the same Idempotency-Key, as long as
`patience_seconds` allows; `Retry-After` is honoured. Every write's `Foldline-Position` is kept and sent with the reads that follow.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from foldline import __version__
from foldline.answers import Decoder, typed
from foldline.configuration import Target
from foldline.identifiers import traceparent, uuid7
from foldline.positions import InMemory, Positions
from foldline.problems import BadInput, Conflict, ServerUnavailable, from_answer

if TYPE_CHECKING:
    import httpx2

RETRIED = frozenset({429, 502, 503, 504})
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
WAIT_SECONDS_MAX = 5.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Content = Callable[[], AsyncIterator[bytes]]
"""Makes the body's pieces, afresh for each try."""


class Connection:
    """`async with Connection(target) as connection`. Safe for concurrent use in one event loop.

    `sleep` and `now` are the clock that retries go by.
    """

    def __init__(
        self,
        target: Target,
        *,
        positions: Positions | None = None,
        decode: Decoder = typed,
        patience_seconds: float = 20.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.decode = decode
        self.positions: Positions = positions if positions is not None else InMemory()
        self._patience_seconds = patience_seconds
        self._transport = transport
        self._sleep = sleep
        self._now = now
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpx2

        loopback = urlsplit(self.target.url).hostname in LOOPBACK
        headers = {"User-Agent": f"foldline/{__version__} python/{sys.version_info.major}.{sys.version_info.minor}"}
        if self.target.token:
            headers["Authorization"] = f"Bearer {self.target.token}"
        self._client = httpx2.AsyncClient(
            headers=headers, transport=self._transport, verify=self._verify(), trust_env=not loopback,
            timeout=httpx2.Timeout(60.0, connect=5.0), limits=httpx2.Limits(max_connections=32, max_keepalive_connections=8),
        )  # fmt: skip
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON answer of one request (None when there is none). Raises: FoldlineError."""
        content = None if body is None else _encoded(body)
        sent = {**({"Content-Type": "application/json"} if content is not None else {}), **(headers or {})}
        async with self.open(method, path, content=content, params=params, headers=sent, whole=True) as response:
            raw = await response.aread()
        if not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError:
            raise ServerUnavailable(
                f"{self.target.url} answered something that is not JSON; is it a Foldline server?", code="not_json"
            ) from None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Content | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float | None = None,
        whole: bool = False,
    ) -> AsyncIterator[httpx2.Response]:
        """A successful answer whose body is still to be read, or (`whole`) has arrived as a whole. Raises: FoldlineError."""
        scope = _scope(path)
        fixed = {"traceparent": traceparent(self.target.trace_parent), **(headers or {})}
        if method in WRITES:
            fixed.setdefault("Idempotency-Key", uuid7())
        position = None if method in WRITES else self.positions.last(scope)

        def request() -> httpx2.Request:
            own = {**fixed, **({"Foldline-Position": position} if position else {})}
            return self._http().build_request(
                method,
                self._address(path),
                params=_params(params),
                headers=own,
                content=content() if callable(content) else content,
            )

        patience = self._patience_seconds if patience_seconds is None else patience_seconds
        response = await self._send(request, patience, whole=whole)
        try:
            if response.status_code == 409 and position:
                await response.aclose()
                self.positions.forget()
                position = None
                response = await self._send(request, patience, whole=whole)
            if response.status_code >= 300:
                raise await _problem(response)
            if method in WRITES and (token := response.headers.get("Foldline-Position")):
                self.positions.keep(scope, token)
            yield response
        finally:
            await response.aclose()

    async def _send(self, request: Callable[[], httpx2.Request], patience_seconds: float, *, whole: bool) -> httpx2.Response:
        """The first answer that is not a plea to try again; else the last such plea. Raises: ServerUnavailable."""
        import httpx2

        until = self._now() + patience_seconds
        tries = 0
        while True:
            tries += 1
            wait = min(WAIT_SECONDS_MAX, 0.1 * 2 ** min(tries, 8)) * (0.5 + random.random() / 2)  # noqa: S311 - jitter
            try:
                response = await self._http().send(request(), stream=not whole)
            except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
                raise BadInput(f"This request cannot be sent: {error}", code="bad_request") from None
            except httpx2.TransportError as error:
                if self._now() + wait > until or "CERTIFICATE" in str(error):
                    raise self._unreachable(error) from error
            else:
                wait = _retry_after(response) if "Retry-After" in response.headers else wait
                if response.status_code not in RETRIED or self._now() + wait > until:
                    return response
                await response.aclose()
            await self._sleep(wait)

    def _unreachable(self, error: Exception) -> ServerUnavailable:
        if "CERTIFICATE" in str(error):
            sentence = f"The certificate of {self.target.url} is not trusted; give its authority with `foldline login --ca-file FILE`."
            return ServerUnavailable(sentence, code="untrusted_certificate")
        reason = str(error) or type(error).__name__
        return ServerUnavailable(f"{self.target.url} cannot be reached ({reason}). Is the server up?", code="unreachable")

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            raise RuntimeError("The connection is not open; use `async with`.")
        return self._client

    def _verify(self) -> Any:
        if self.target.ca_file and self.target.url.startswith("https:"):
            import ssl

            try:
                return ssl.create_default_context(cafile=self.target.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise BadInput(f"{self.target.ca_file} is no certificate file that can be read ({error}).", code="bad_ca_file") from None
        return self.target.url.startswith("https:")  # plain HTTP needs no certificates, whose loading takes 30 ms

    def _address(self, path: str) -> str:
        return f"{self.target.url}/api/v1/{path}"


def path_of(*segments: str) -> str:
    """A path below /api/v1 of whole segments, each quoted. Raises: BadInput for a segment that would change the path."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise BadInput(f"{segment!r} is no name.", code="bad_name")
    try:
        return "/".join(quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise BadInput("A name contains a lone surrogate.", code="bad_name") from None


def _scope(path: str) -> str:
    head, _, rest = path.partition("/")
    return rest.partition("/")[0] if head == "workspaces" else ""


def _params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {k: ("true" if v is True else "false" if v is False else v) for k, v in params.items() if v is not None and v != []}


def _encoded(body: Any) -> bytes:
    if hasattr(body, "model_dump_json"):
        return str(body.model_dump_json(exclude_none=True)).encode()
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"This cannot be sent as JSON: {error}.", code="bad_json") from None


def _retry_after(response: httpx2.Response) -> float:
    """Seconds from `Retry-After`, which holds a number or a date."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            seconds = 1.0
    return max(0.0, seconds)


async def _problem(response: httpx2.Response) -> Exception:
    raw = await response.aread()
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if 300 <= response.status_code < 400:
        return Conflict("The server sent the request elsewhere; a Foldline server does not. Check its address.", code="redirected")
    return from_answer(response.status_code, body, request_id=response.headers.get("x-request-id"))
