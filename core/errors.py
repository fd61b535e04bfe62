"""Refusals: types with fields and a stable `code`. The HTTP status is chosen in one place, in the HTTP adapter.

`kind` groups them for that choice: invalid, unauthenticated, forbidden, missing, conflict, too_large, limit, unavailable, not_yet.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Kind = Literal[
    "invalid", "unauthenticated", "forbidden", "missing", "conflict", "precondition", "too_large", "limit", "unavailable", "not_yet",
]


class Refusal(Exception):
    """A request that cannot be granted. `str()` is a sentence that says what to do; `fields()` are its facts."""

    code: ClassVar[str]
    kind: ClassVar[Kind]
    retry_after_seconds: float | None = None

    def fields(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "retry_after_seconds"}


class Invalid(Refusal):
    """The request makes no sense as it stands; `problem` says why and what to write instead."""

    code = "invalid"
    kind = "invalid"

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


class NotFound(Refusal):
    """No such thing in this workspace, or none that the caller may know of."""

    code = "not_found"
    kind = "missing"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"There is no {what} named {name!r} here.")
        self.what, self.name = what, name


class AlreadyExists(Refusal):
    code = "already_exists"
    kind = "conflict"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"The {what} {name!r} exists already; choose another name, or update it.")
        self.what, self.name = what, name


class Conflict(Refusal):
    """The thing is in a state in which this cannot be done; `problem` says which and what to do."""

    code = "conflict"
    kind = "conflict"

    def __init__(self, problem: str, **facts: Any) -> None:
        super().__init__(problem)
        self.facts = facts

    def fields(self) -> dict[str, Any]:
        return dict(self.facts)


class RunFinished(Conflict):
    code = "run_finished"

    def __init__(self, run: str, outcome: str) -> None:
        super().__init__(f"The run {run!r} has ended ({outcome}); an ended run never changes.", run=run, outcome=outcome)
        self.run, self.outcome = run, outcome


class StaleAttempt(Conflict):
    """A report from an attempt that is no longer the run's."""

    code = "stale_attempt"

    def __init__(self, run: str, attempt: int, current: int | None) -> None:
        problem = f"Attempt {attempt} of run {run!r} is over; its reports change nothing."
        super().__init__(problem, run=run, attempt=attempt, current=current)
        self.run, self.attempt, self.current = run, attempt, current


class ModelInUse(Conflict):
    code = "model_in_use"

    def __init__(self, model: str, version: int, deployments: tuple[str, ...]) -> None:
        super().__init__(
            f"Version {version} of model {model!r} is deployed ({', '.join(deployments)}); delete those deployments first.",
            model=model, version=version, deployments=list(deployments),
        )
        self.deployments = deployments


class NoCapacity(Conflict):
    """A node that has no such slot free."""

    code = "no_capacity"


class VersionConflict(Refusal):
    """Somebody else changed the stream meanwhile."""

    code = "version_conflict"
    kind = "conflict"

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at version {actual}, not {expected}; read it again and retry.")
        self.stream, self.expected, self.actual = stream, expected, actual


class CommandReused(Refusal):
    """The same command id (Idempotency-Key) came with another body."""

    code = "idempotency_key_reused"
    kind = "conflict"

    def __init__(self, command: str) -> None:
        super().__init__("This Idempotency-Key was used for another request; use a new key.")
        self.command = command


class KeyExpired(Refusal):
    """A UUIDv7 command id that is older than the seven days for which they are kept."""

    code = "key_expired"
    kind = "conflict"

    def __init__(self, command: str) -> None:
        super().__init__("This Idempotency-Key is older than 7 days; check whether the request was done, then use a new key.")
        self.command = command


class EventTooLarge(Refusal):
    code = "too_large"
    kind = "too_large"

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"{what} would take {size} bytes in the log, over the limit of {limit}; put large content into files.")
        self.what, self.size, self.limit = what, size, limit


class Unauthenticated(Refusal):
    code = "unauthenticated"
    kind = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("No valid credentials; run `foldline login URL`, or send `Authorization: Bearer TOKEN`.")


class Forbidden(Refusal):
    code = "forbidden"
    kind = "forbidden"

    def __init__(self, role: str | None, needed: str) -> None:
        super().__init__(f"This needs the role {needed}; ask an owner of the workspace for it.")
        self.needed = needed


class Unavailable(Refusal):
    """Not now; nothing was recorded. Send it again after `retry_after_seconds`."""

    code = "unavailable"
    kind = "unavailable"

    def __init__(self, problem: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(problem)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(Unavailable):
    """The commit may or may not be in the log; the same command id finds out."""

    code = "outcome_unknown"

    def __init__(self) -> None:
        super().__init__("The outcome is not known yet; send the same request again with the same Idempotency-Key.")


class UnreadableHistory(Unavailable):
    """The stream holds an event that this server cannot read; nothing is decided on a history that is known in part."""

    code = "unreadable_event"

    def __init__(self, stream: str, event: str, reason: str) -> None:
        super().__init__(
            f"{stream} holds an event that this server cannot read ({event}: {reason}), so it cannot be changed or looked at now. "
            "Nothing is lost; an administrator has to update the server.", retry_after_seconds=60,
        )
        self.stream, self.event = stream, event


class Behind(Unavailable):
    """The read model has not reached the position that the read asked for."""

    code = "behind"


class OtherLog(Refusal):
    """A position token of another log."""

    code = "other_log"
    kind = "conflict"

    def __init__(self) -> None:
        super().__init__("This position belongs to another log; drop it and read again.")


class LimitReached(Refusal):
    code = "limit_reached"
    kind = "limit"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"The limit of {limit} {what} is reached.")
        self.what, self.limit = what, limit


class NotYet(Refusal):
    """Something that users of Azure ML know and that Foldline does not have yet."""

    code = "not_yet"
    kind = "not_yet"

    def __init__(self, feature: str) -> None:
        super().__init__(f"not_yet: {feature}")
        self.feature = feature


class UnreadableEvent(Exception):
    """A record that this code cannot read: not ours, damaged, or newer than this binary.

    No subscription ends with it: a record whose envelope is whole is delivered as `core.events.Unreadable`.
    """
