"""Results as JSON: always valid, whatever a script returns."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import enum
import json
import math

import pytest

from foldline.serving.answers import NotJson, encode_result


@dataclasses.dataclass
class Point:
    x: float
    label: str


class Colour(str, enum.Enum):  # noqa: UP042  # what many scripts still have
    RED = "red"


class Frame:
    """Shaped like a pandas data frame."""

    columns = ("a",)

    def __repr__(self) -> str:
        return "Frame()"

    def to_dict(self, orient: str = "dict") -> object:
        return [{"a": 1.0}, {"a": math.nan}] if orient == "records" else {}


@pytest.mark.parametrize(("result", "expected"), [
    ({"y": [8]}, {"y": [8]}),
    ([1, 2.5, None, True], [1, 2.5, None, True]),
    (None, None),
    ("no JSON", "no JSON"),
    ("", ""),
    ('{"a": 1}', {"a": 1}),
    ("12", 12),
    (b'{"a": 1}', {"a": 1}),
    (math.nan, None),
    ({"p": [math.inf, -math.inf, 0.5]}, {"p": [None, None, 0.5]}),
    ('{"p": NaN, "q": [Infinity]}', {"p": None, "q": [None]}),
    (array.array("d", [1.0, math.nan]), [1.0, None]),
    ({"inner": array.array("i", [1, 2])}, {"inner": [1, 2]}),
    (Frame(), [{"a": 1.0}, {"a": None}]),
    ((1, (2, 3)), [1, [2, 3]]),
    ({1, }, [1]),
    (datetime.date(2026, 11, 23), "2026-11-23"),
    (Point(math.nan, "a"), {"x": None, "label": "a"}),
    ({Colour.RED: Colour.RED, "n": math.nan}, {"red": "red", "n": None}),
    ({(1, 2)[0]: "a", None: "b", 1.5: "c", True: "d"}, {"1": "d", "null": "b", "1.5": "c"}),
    (collections.OrderedDict(a=math.nan), {"a": None}),
    ("\ud800", "\ud800"),
    ({"text": "ä\u2028</script>"}, {"text": "ä\u2028</script>"}),
], ids=repr)
def test_a_result_becomes_valid_json(result: object, expected: object) -> None:
    def refuse(constant: str) -> object:
        raise AssertionError(constant)

    assert json.loads(encode_result(result).decode(), parse_constant=refuse) == expected


def test_json_text_goes_out_as_it_is() -> None:
    assert encode_result('{"a":  1.50}') == b'{"a":  1.50}'


def _circle() -> object:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    "result", [object(), {"a": {"b": object()}}, b"\xff\xfe", {(1, 2): 3}, _circle(), len], ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_by_name(result: object) -> None:
    with pytest.raises(NotJson):
        encode_result(result)
