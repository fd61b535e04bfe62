"""JSON without surprises: one spelling per value, nothing deep, nothing huge, no key twice, no number that is none.

400 for what is not JSON as we accept it; 422 for numbers and texts that are JSON and cannot be kept.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import anyio.to_thread

from adapters.http.problems import Problem, malformed

DEPTH_MAX = 64
NODES_MAX = 1_500_000
DIGITS_MAX = 40
FLOAT_CHARS_MAX = 400
KEY_CHARS_MAX = 10_000
INLINE_BYTES_MAX = 64 * 1024
"""Larger bodies are parsed in a worker thread, so that the event loop goes on."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


async def parse_json(body: bytes) -> Any:
    """The value in `body`. Raises: Problem."""
    if len(body) <= INLINE_BYTES_MAX:
        return parse_json_now(body)
    return await anyio.to_thread.run_sync(parse_json_now, body)


def parse_json_now(body: bytes) -> Any:
    if not body.strip():
        raise malformed("The request needs a JSON body.", code="body_missing")
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\x00" in body:
        raise malformed("The body must be UTF-8 without a byte order mark.", code="not_utf8")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise malformed("The body is not valid UTF-8.", code="not_utf8") from None
    _check_depth(body)
    try:
        value = _DECODER.decode(text)
    except Problem:
        raise
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it nests too deeply"
        raise malformed(f"The body is not JSON: {reason}.", code="not_json") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(body: bytes) -> None:
    """Counts brackets outside of strings, and stops at the first that is too deep."""
    opened = body.count(b"[") + body.count(b"{")
    if opened > NODES_MAX:
        raise malformed(f"The body has more than {NODES_MAX} lists and objects.", code="too_many_nodes")
    if opened <= DEPTH_MAX:
        return
    depth = 0
    for token in _TOKENS.finditer(body):
        kind = body[token.start()]
        if kind in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise malformed(f"The body nests deeper than {DEPTH_MAX} levels.", code="too_deep")
        elif kind in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        counted = Counter(key for key, _ in pairs)
        twice = counted.most_common(1)[0][0]
        raise malformed(f"The key {twice[:100]!r} occurs twice in one object.", code="duplicate_key")
    return made


def _whole(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise Problem(422, "number_out_of_range", f"A number has more than {DIGITS_MAX} digits.")
    return int(text)


def _real(text: str) -> float:
    if len(text) > FLOAT_CHARS_MAX:
        raise Problem(422, "number_out_of_range", f"A number has more than {FLOAT_CHARS_MAX} characters.")
    value = float(text)
    if math.isinf(value):
        raise Problem(422, "number_out_of_range", "A number is too large to be kept.")
    return value


def _constant(text: str) -> NoReturn:
    raise Problem(422, "not_finite", f"{text} is not a JSON number; a metric may spell it as a string, other fields need finite numbers.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole, parse_float=_real, parse_constant=_constant)


def check_nul(value: Any) -> None:
    """No text in it holds the character NUL, which no database keeps. Raises: Problem 422."""
    if any("\0" in text for text in _texts(value)):
        raise Problem(422, "nul_character", "The body contains the character NUL, which cannot be kept.")


def _check_surrogates(value: Any) -> None:
    """A lone surrogate, spelled as an escape, is no character and cannot be stored."""
    for text in _texts(value):
        _check_text(text)


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            yield from one
            waiting.extend(one.values())


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise malformed("The body contains a lone surrogate; send valid Unicode.", code="lone_surrogate") from None
