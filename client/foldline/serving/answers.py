"""What a worker says: results as JSON, problems as problem+json.

A result is always valid JSON: NaN and the infinities, which JSON has not got, are sent as null.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large",
    415: "Unsupported Media Type", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
    504: "Gateway Timeout",
}
NOT_RUN = (b"x-foldline-not-run", b"1")
"""Tells the gateway that the script never saw the request, so that another replica may be asked."""


class NotJson(Exception):
    """The script's result has something in it that JSON cannot hold; the message says what."""


def encode_result(result: object) -> bytes:
    """The result as JSON. Text that is JSON already goes out as it is; other text becomes a JSON string.

    Raises: NotJson.
    """
    if isinstance(result, (bytes, bytearray)):
        try:
            result = bytes(result).decode()
        except UnicodeDecodeError:
            raise NotJson("bytes that are not UTF-8") from None
    if isinstance(result, str):
        return _encode_text(result)
    try:
        return _ENCODER.encode(result).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        return _encode_slowly(result)


def problem(status: int, code: str, detail: str, request_id: str) -> bytes:
    """An RFC 9457 body."""
    fields = {"type": "about:blank", "title": REASONS[status], "status": status, "code": code, "detail": detail, "request_id": request_id}
    return json.dumps(fields).encode("ascii")


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _encode_text(text: str) -> bytes:
    seen: list[str] = []
    try:
        value = json.loads(text, parse_constant=seen.append)
        if not seen:
            return text.encode()
        return json.dumps(value, allow_nan=False).encode("ascii")
    except (ValueError, RecursionError):
        return json.dumps(text).encode("ascii")


def _encode_slowly(result: object) -> bytes:
    try:
        return json.dumps(_plain(result), allow_nan=False).encode("ascii")
    except RecursionError:
        raise NotJson("a structure that is nested too deeply, or holds itself") from None


def _plain(value: Any) -> Any:
    """`value` out of None, booleans, finite numbers, text, lists and dictionaries with text keys."""
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)  # the text itself, of an enumeration's member too
        case int():
            return int(value)
        case float():
            return float(value) if value - value == 0 else None
        case Mapping():
            return {_key(name): _plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return _plain(_to_plain(value))


def _key(name: Any) -> str:
    plain = _plain(name)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, (list, dict)):
        raise NotJson(f"a dictionary key of type {type(name).__name__}")
    return json.dumps(plain)


def _to_plain(value: Any) -> Any:
    """One step towards JSON: numpy by `tolist`, data frames by rows, dates as ISO text, data classes as dictionaries."""
    for name, convert in _CONVERSIONS:
        if hasattr(value, name):
            return convert(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise NotJson("bytes that are not UTF-8") from None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise NotJson(f"a value of type {type(value).__module__}.{type(value).__qualname__}")


def _rows(frame: Any) -> Any:
    return frame.to_dict(orient="records") if hasattr(frame, "columns") else frame.to_dict()


_CONVERSIONS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("tolist", lambda value: value.tolist()),
    ("to_dict", _rows),
    ("model_dump", lambda value: value.model_dump()),
    ("isoformat", lambda value: value.isoformat()),
)
_ENCODER = json.JSONEncoder(allow_nan=False, default=_to_plain, separators=(",", ":"))
