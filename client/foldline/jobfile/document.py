"""YAML read with care: every value knows its file and line; size, depth and what aliases expand to are limited; a key twice is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from foldline.problems import BadInput

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
BYTES_MAX = 1 << 20
DEPTH_MAX = 40
VALUES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class Node:
    """One value: a scalar (None, bool, int, float, str), a list of nodes, or a dictionary of nodes."""

    value: Any
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    """Where each key of a dictionary is written."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class BadFile(BadInput):
    """A file of the caller's is not right; the sentence begins with file and line."""

    def __init__(self, place: Place, sentence: str, *, code: str = "bad_file") -> None:
        super().__init__(f"{place}: {sentence}", code=code, fields={"file": place.file, "line": place.line})
        self.place = place


def read_file(path: Path) -> Node:
    """The document in a file. Raises: BadInput, BadFile."""
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}.", code="no_file") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", code="no_file") from None
    return read_text(raw, str(path))


def read_text(raw: bytes, name: str) -> Node:
    """The document in `raw`; `name` is what errors call it. Raises: BadFile."""
    if len(raw) > BYTES_MAX:
        raise BadFile(Place(name), f"has more than {BYTES_MAX} bytes, which no file of this kind needs.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(Place(name), f"is not UTF-8 (byte {error.start}).") from None
    try:
        _limit(text, name)
        root = yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadFile(Place(name, mark.line + 1 if mark else 0), f"is no valid YAML: {problem}.") from None
    if root is None:
        raise BadFile(Place(name), "is empty.")
    return _node(root, name)


def from_python(value: Any, name: str) -> Node:
    """A document that exists as Python values already (a dictionary, an SDK object's). Raises: BadFile."""
    budget = iter(range(VALUES_MAX))

    def build(item: Any, depth: int) -> Node:
        if depth > DEPTH_MAX or next(budget, None) is None:
            raise BadFile(Place(name), "is too deep or too large.")
        if isinstance(item, Mapping):
            return Node({str(key): build(child, depth + 1) for key, child in item.items()}, Place(name))
        if isinstance(item, list | tuple):
            return Node([build(child, depth + 1) for child in item], Place(name))
        if item is None or isinstance(item, bool | int | float | str):
            return Node(item, Place(name))
        return Node(str(item), Place(name))

    return build(value, 0)


def _limit(text: str, name: str) -> None:
    """Counts what the document would expand to, before anything is built. Raises: BadFile."""
    total = 0
    open_nodes: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=Loader):
        place = Place(name, event.start_mark.line + 1 if event.start_mark is not None else 0)
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before + 1
        if len(open_nodes) > DEPTH_MAX:
            raise BadFile(place, f"is nested deeper than {DEPTH_MAX} levels.")
        if total > VALUES_MAX:
            raise BadFile(place, f"holds, its aliases written out, more than {VALUES_MAX} values.")


def _node(source: yaml.Node, name: str) -> Node:
    place = Place(name, source.start_mark.line + 1)
    if isinstance(source, yaml.MappingNode):
        return _mapping(source, place)
    if isinstance(source, yaml.SequenceNode):
        return Node([_node(child, name) for child in source.value], place)
    if not isinstance(source, yaml.ScalarNode):
        raise BadFile(place, "is of no kind that is known here.")
    return Node(_scalar(source, place), place)


def _mapping(source: yaml.MappingNode, place: Place) -> Node:
    values: dict[str, Node] = {}
    keys: dict[str, Place] = {}
    for key, child in _pairs(source):
        at = Place(place.file, key.start_mark.line + 1)
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            raise BadFile(at, "only plain names are allowed as keys here.")
        if key.value in values:
            raise BadFile(at, f"{key.value!r} is written twice (first in line {keys[key.value].line}).")
        keys[key.value] = at
        values[key.value] = _node(child, place.file)
    return Node(values, place, keys)


def _pairs(source: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    yield from source.value


def _scalar(source: yaml.ScalarNode, place: Place) -> Any:
    """None, bool, int, float or str; a date stays as it is written."""
    if source.tag in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:str"):
        return source.value
    if source.tag == "tag:yaml.org,2002:null":
        return None
    if source.tag not in _CONSTRUCTED:
        raise BadFile(place, f"the tag {source.tag!r} is not allowed.")
    try:
        return _CONSTRUCTED[source.tag](source)
    except (ValueError, yaml.YAMLError):
        raise BadFile(place, f"{source.value!r} is no value of the kind it looks like.") from None


_constructor = yaml.constructor.SafeConstructor()
_CONSTRUCTED = {
    "tag:yaml.org,2002:bool": _constructor.construct_yaml_bool,
    "tag:yaml.org,2002:int": _constructor.construct_yaml_int,
    "tag:yaml.org,2002:float": _constructor.construct_yaml_float,
}
