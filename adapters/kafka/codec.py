"""A sealed record <-> a Kafka record: CloudEvents 1.0, binary mode.

Attributes are headers `ce_<name>`; `datacontenttype` is the header `content-type`, as the Kafka binding of CloudEvents has it;
the key is the workspace; the value is the event's JSON. Any consumer reads it with nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.envelope import Sealed
from core.errors import UnreadableEvent

PREFIX = "ce_"
CONTENT_TYPE = "content-type"

Header = tuple[str, bytes]


def to_headers(sealed: Sealed) -> list[Header]:
    """The headers of a record, in the order of its attributes."""
    return [
        (CONTENT_TYPE if name == "datacontenttype" else PREFIX + name, text.encode())
        for name, text in sealed.attributes.items()
    ]


def to_key(sealed: Sealed) -> bytes:
    return sealed.attributes["partitionkey"].encode()


def from_record(headers: Iterable[Header], value: bytes | None) -> Sealed:
    """The record as it was sealed. Raises: UnreadableEvent when it is none of ours."""
    attributes: dict[str, str] = {}
    try:
        for name, content in headers:
            if name.startswith(PREFIX):
                attributes[name[len(PREFIX) :]] = content.decode()
            elif name == CONTENT_TYPE:
                attributes["datacontenttype"] = content.decode()
    except UnicodeDecodeError as error:
        raise UnreadableEvent("a record's header is not UTF-8: somebody else wrote into the topic") from error
    if value is None or "commandid" not in attributes:
        raise UnreadableEvent("a record without our CloudEvents headers: somebody else wrote into the topic")
    return Sealed(attributes, value)
