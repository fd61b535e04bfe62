"""How an event becomes bytes, a sequence and a link of the hash chain. Every adapter stores exactly this, for ever.

CloudEvents 1.0, binary mode: the attributes are text (on Kafka: headers with the prefix `ce_`), the value is the event as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from core.catalogue import parse_event
from core.errors import EventTooLarge, UnreadableEvent
from core.events import Event, Recorded, Unreadable
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId
from core.ports import Commit

EVENT_BYTES_MAX = 256 * 1024
COMMIT_BYTES_MAX = 768 * 1024
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Sealed:
    """One record as it is stored: attributes in a fixed spelling, and the value's bytes."""

    attributes: Mapping[str, str]
    value: bytes

    @property
    def size(self) -> int:
        return len(self.value) + sum(len(k) + len(v) + 8 for k, v in self.attributes.items())


@dataclass(slots=True)
class Head:
    """Where a workspace's chain ends: the last sequence, its chain and its time."""

    sequence: int = 0
    chain: str = GENESIS
    time: str = ""


def serialise(installation: str, commit: Commit) -> tuple[bytes, ...]:
    """The values of a commit's events, in order, with their sizes checked before the commit enters any group.

    Sizes are counted as if sequence and version had 19 digits, so that what passes here passes `seal`.

    Raises: EventTooLarge.
    """
    values: list[bytes] = []
    total = 0
    for write in commit.writes:
        for event in write.events:
            value = event.model_dump_json(exclude_none=True).encode()
            size = len(value) + _envelope_size(installation, commit, write.stream, event.type)
            if size > EVENT_BYTES_MAX:
                raise EventTooLarge(event.type, size, EVENT_BYTES_MAX)
            total += size
            values.append(value)
    if total > COMMIT_BYTES_MAX:
        raise EventTooLarge("commit", total, COMMIT_BYTES_MAX)
    return tuple(values)


def seal(
    installation: str, commit: Commit, versions: Mapping[Stream, int], head: Head, now: datetime,
    *, values: Sequence[bytes] | None = None,
) -> tuple[list[Sealed], Head]:
    """The records of a commit, in order, and the workspace's head after them. Changes nothing that it is given.

    `values` are what `serialise` made of this very commit, to spare doing it twice.

    Raises: EventTooLarge.
    """
    values = serialise(installation, commit) if values is None else values
    time = max(spell_time(now), head.time)
    sequence, chain = head.sequence, head.chain
    records: list[Sealed] = []
    for write in commit.writes:
        version = versions[write.stream]
        for event in write.events:
            sequence += 1
            version += 1
            value = values[len(records)]
            attributes = {
                "specversion": "1.0",
                "id": f"{commit.workspace}/{sequence}",
                "source": f"/foldline/{installation}/{commit.workspace}",
                "type": f"foldline.{event.type}",
                "subject": write.stream,
                "time": time,
                "datacontenttype": "application/json",
                "dataschema": f"/schemas/events/{event.type}.json",
                "partitionkey": commit.workspace,
                "sequence": str(sequence),
                "streamversion": str(version),
                "actor": commit.context.actor,
                "correlationid": commit.context.correlation,
                "commandid": commit.context.command,
                "requesthash": commit.request_hash,
            }
            if commit.context.causation is not None:
                attributes["causationid"] = commit.context.causation
            if commit.context.traceparent is not None:
                attributes["traceparent"] = commit.context.traceparent
            chain = link(chain, sequence, attributes, value)
            attributes["chain"] = chain
            records.append(Sealed(attributes, value))
    return records, Head(sequence, chain, time)


_ENVELOPE_BYTES = 520
"""What the attributes of one record take beside the texts counted in `_envelope_size`: names, fixed texts, digits."""


def _envelope_size(installation: str, commit: Commit, stream: Stream, event_type: str) -> int:
    context = commit.context
    texts = (
        installation, stream, event_type, event_type, context.actor, context.correlation, context.command,
        commit.request_hash, context.causation or "", context.traceparent or "", *(commit.workspace,) * 3,
    )
    return _ENVELOPE_BYTES + sum(map(len, texts))


def link(previous: str, sequence: int, attributes: Mapping[str, str], value: bytes) -> str:
    """SHA-256(previous chain | sequence | attributes but `chain`, sorted, each part preceded by its length | value)."""
    parts = [bytes.fromhex(previous), sequence.to_bytes(8, "big")]
    for key in sorted(attributes):
        if key != "chain":
            parts.append(_measured(key))
            text = attributes[key].encode()
            parts.append(len(text).to_bytes(4, "big"))
            parts.append(text)
    parts.append(value)
    return hashlib.sha256(b"".join(parts)).hexdigest()


@lru_cache(maxsize=64)
def _measured(key: str) -> bytes:
    """An attribute's name behind its length; there are few names."""
    name = key.encode()
    return len(name).to_bytes(4, "big") + name


def unseal(attributes: Mapping[str, str], value: bytes, position: Position) -> Recorded:
    """The record as a fold gets it; older shapes pass their upcasters. An event of unknown type or shape is `Unreadable`.

    Raises: UnreadableEvent when the envelope itself is none of ours: no workspace could be named that it belongs to.
    """
    try:
        return _recorded(attributes, _event(attributes["type"].removeprefix("foldline."), value), position)
    except (KeyError, ValueError) as error:
        raise UnreadableEvent(f"the record at {position.token()} has no envelope of ours: {error!r}") from error


def _event(name: str, value: bytes) -> Event:
    try:
        return parse_event(name, value)
    except UnreadableEvent as error:
        return Unreadable(type=name, reason=str(error), sha256=hashlib.sha256(value).hexdigest())


def _recorded(attributes: Mapping[str, str], event: Event, position: Position) -> Recorded:
    return Recorded(
        event=event,
        id=attributes["id"],
        workspace=WorkspaceId(attributes["partitionkey"]),
        stream=Stream(attributes["subject"]),
        version=int(attributes["streamversion"]),
        sequence=int(attributes["sequence"]),
        chain=attributes["chain"],
        at=datetime.fromisoformat(attributes["time"]),
        actor=ActorId(attributes["actor"]),
        correlation=attributes["correlationid"],
        causation=attributes.get("causationid"),
        command=CommandId(attributes["commandid"]),
        traceparent=attributes.get("traceparent"),
        position=position,
    )


@lru_cache(maxsize=64)
def spell_time(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds, always 27 characters, so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
