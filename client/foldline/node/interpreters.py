"""Which Python a run gets: one of /usr that any user may execute, never the agent's own under a closed home."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from foldline.node.sandbox import closed_parent

FOLDERS = (Path("/usr/local/bin"), Path("/usr/bin"))


def available() -> dict[tuple[int, int], str]:
    """The interpreters of this machine that any user may execute, by version."""
    found: dict[tuple[int, int], str] = {}
    for folder in reversed(FOLDERS):
        for path in folder.glob("python3.*"):
            matched = re.fullmatch(r"python(\d+)\.(\d+)", path.name)
            if matched and path.stat().st_mode & 0o001 and Path("/usr") in path.resolve().parents:
                found[int(matched[1]), int(matched[2])] = str(path)
    return found


def choose(wanted: str, default: str | None = None) -> tuple[str | None, list[str]]:
    """An interpreter for a version such as '3.11' (or '' for any) and warnings; None with the one sentence when there is none."""
    found = available()
    if default is not None and (refusal := refused(default)) is not None:
        return None, [refusal]
    if not found and default is None:
        return None, [f"This node has no Python that a run may use: {refused(sys.executable) or 'install python3 into /usr'}"]
    numbers = tuple(int(part) for part in wanted.split(".")[:2]) if wanted else ()
    if len(numbers) < 2:
        if default is not None:
            return default, []
        fitting = [version for version in found if not numbers or version[0] == numbers[0]]
        return found[max(fitting or found)], []
    asked = (numbers[0], numbers[1])
    if asked in found:
        return found[asked], []
    if default is not None and not found:
        return default, [f"Python {wanted} is not on this node; {default} is used instead."]
    nearest = min(found, key=lambda version: (abs(version[0] - asked[0]), abs(version[1] - asked[1])))
    return found[nearest], [f"Python {wanted} is not on this node; Python {nearest[0]}.{nearest[1]} is used instead."]


def refused(python: str) -> str | None:
    """Why runs may not use this interpreter, as a sentence; None when they may."""
    program = shutil.which(python)
    if program is None:
        return f"The Python {python} is not there."
    real = Path(program).resolve()
    closed = closed_parent(real)
    if closed is not None:
        return f"The Python {real} lies below {closed}, which other users may not enter; give runs one that any user may execute."
    if Path("/usr") not in real.parents:
        return f"The Python {real} lies outside /usr, which is all that a run sees of the system; give runs one such as /usr/bin/python3."
    return None
