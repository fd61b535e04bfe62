"""A record's way to Kafka headers and back."""

from __future__ import annotations

import pytest

from adapters.kafka.codec import from_record, to_headers, to_key
from core.envelope import Sealed
from core.errors import UnreadableEvent

SEALED = Sealed(
    {
        "specversion": "1.0", "id": "ws-1/7", "datacontenttype": "application/json", "partitionkey": "ws-1", "commandid": "c",
        "subject": "run/ü",
    },
    b'{"type":"x"}',
)


def test_a_record_comes_back_as_it_was_sealed() -> None:
    assert from_record(to_headers(SEALED), SEALED.value) == SEALED


def test_the_headers_are_those_of_cloudevents_binary_mode() -> None:
    headers = dict(to_headers(SEALED))
    assert headers["content-type"] == b"application/json"
    assert "ce_datacontenttype" not in headers
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_subject"] == "run/ü".encode()
    assert to_key(SEALED) == b"ws-1"


@pytest.mark.parametrize(("headers", "value"), [
    ([], b"{}"), ([("other", b"x")], b"{}"), (to_headers(SEALED), None), ([("ce_id", b"\xff")], b"{}"),
])
def test_a_record_of_somebody_else_is_unreadable(headers: list[tuple[str, bytes]], value: bytes | None) -> None:
    with pytest.raises(UnreadableEvent):
        from_record(headers, value)
