"""What can go wrong, as types. Each says one sentence, carries the server's stable `code`, and knows the CLI's exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class FoldlineError(Exception):
    """Something went wrong; `detail` is a sentence that says what to do."""

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        detail: str,
        *,
        code: str = "error",
        status: int | None = None,
        fields: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.fields = dict(fields or {})
        self.request_id = request_id


class BadInput(FoldlineError):
    """What was asked for makes no sense as written (400, 413, 422), or a file of yours does not."""


class NotYet(FoldlineError):
    """Foldline does not have this feature yet. Nothing was sent."""

    exit_code = 7

    def __init__(self, feature: str, *, place: str | None = None) -> None:
        super().__init__(f"not_yet: {feature}" + (f" ({place})" if place else ""), code="not_yet", fields={"feature": feature})
        self.feature = feature


class NotFound(FoldlineError):
    """There is no such thing, or it is not yours to see (404)."""

    exit_code = 3


class NotLoggedIn(FoldlineError):
    """The server takes no request without a valid token (401)."""

    exit_code = 4


class NotAllowed(FoldlineError):
    """Your role is too low for this (403)."""

    exit_code = 4


class Conflict(FoldlineError):
    """It contradicts what is there (409, 412)."""

    exit_code = 5


class ServerUnavailable(FoldlineError):
    """The server could not be reached, or could not answer now; it was tried again for a while first."""

    exit_code = 6


class UnsafePath(FoldlineError):
    """The server named a path outside the folder that was asked for. Nothing was written there."""

    exit_code = 2


class DamagedFile(FoldlineError):
    """What arrived has another SHA-256 than the server announced. It was thrown away."""

    exit_code = 6


class RunNotSuccessful(FoldlineError):
    """The run ended, and not well."""

    exit_code = 1


class ScoringFailed(FoldlineError):
    """The scoring script of a deployment failed on this request."""

    exit_code = 1


_BY_STATUS: dict[int, type[FoldlineError]] = {
    401: NotLoggedIn, 403: NotAllowed, 404: NotFound, 409: Conflict, 412: Conflict, 428: Conflict,
    408: ServerUnavailable, 425: ServerUnavailable, 429: ServerUnavailable,
}  # fmt: skip


def from_answer(status: int, body: object, *, request_id: str | None = None) -> FoldlineError:
    """The error behind an answer of 400 or above; `body` is its decoded problem+json, or anything else."""
    problem = body if isinstance(body, dict) else {}
    code = str(problem.get("code") or f"http_{status}")
    title = str(problem.get("title") or "")
    detail = str(problem.get("detail") or title or f"The server answered {status}.")
    fields = problem.get("fields") if isinstance(problem.get("fields"), dict) else {}
    if code == "not_yet":
        feature = str((fields or {}).get("feature") or detail.removeprefix("not_yet: "))
        return NotYet(feature)
    kind = _BY_STATUS.get(status) or (ServerUnavailable if status >= 500 else BadInput)
    if status == 401:
        detail = f"{detail} Log in with `foldline login URL`."
    return kind(detail, code=code, status=status, fields=fields, request_id=str(problem.get("request_id") or request_id or "") or None)
