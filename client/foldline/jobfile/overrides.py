"""`--set a.b=c`: changes to a document before it is read. The value is YAML; numbers step into lists."""

from __future__ import annotations

from collections.abc import Iterable

from foldline.jobfile.document import BadFile, Node, Place, read_text

STEPS_MAX = 20


def apply(root: Node, overrides: Iterable[str]) -> Node:
    """Changes `root` in place, in the order given. Raises: BadFile."""
    for override in overrides:
        place = Place(f"--set {override}")
        path, separator, text = override.partition("=")
        steps = path.strip().split(".")
        if not separator or not all(steps) or len(steps) > STEPS_MAX:
            raise BadFile(place, "must look like a.b=value.")
        _set(root, steps, _value(text, place), place)
    return root


def _value(text: str, place: Place) -> Node:
    if not text.strip():
        return Node(text, place)
    try:
        node = read_text(text.encode(), place.file)
    except (BadFile, UnicodeEncodeError):
        return Node(text, place)
    return node if isinstance(node.value, list | dict) else Node(node.value, place)


def _set(root: Node, steps: list[str], value: Node, place: Place) -> None:
    here = root
    for step in steps[:-1]:
        here = _child(here, step, place)
    last = steps[-1]
    if isinstance(here.value, list):
        here.value[_index(here, last, place)] = value
    elif isinstance(here.value, dict):
        here.value[last] = value
        here.keys[last] = place
    else:
        raise BadFile(place, f"{'.'.join(steps[:-1])!r} is no mapping, so nothing can be set in it.")


def _child(here: Node, step: str, place: Place) -> Node:
    if isinstance(here.value, list):
        child: Node = here.value[_index(here, step, place)]
        return child
    if not isinstance(here.value, dict):
        raise BadFile(place, f"there is no mapping at {step!r}.")
    found = here.value.get(step)
    if found is None or found.value is None:
        found = Node({}, place)
        here.value[step] = found
        here.keys.setdefault(step, place)
    return found


def _index(here: Node, step: str, place: Place) -> int:
    if not step.isdecimal() or int(step) >= len(here.value):
        raise BadFile(place, f"{step!r} is no position in a list of {len(here.value)}.")
    return int(step)
