"""pip requirements as we accept them: names and versions from an index, never options, paths or addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from adapters.http.problems import Problem

_VALUE = (
    r"(?:python_version|python_full_version|os_name|sys_platform|platform_release|platform_system|platform_version|platform_machine"
    r"|platform_python_implementation|implementation_name|implementation_version|extra|'[^'\"\\\n]{0,100}'|\"[^'\"\\\n]{0,100}\")"
)
_TERM = rf"\(*\s*{_VALUE}\s*(?:===|==|~=|!=|<=|>=|<|>|not\s+in|in)\s*{_VALUE}\s*\)*"
_MARKER = rf"{_TERM}(?:\s+(?:and|or)\s+{_TERM}){{0,20}}"
_REQUIREMENT = re.compile(
    r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"(?:\s*\[\s*[A-Za-z0-9._-]+(?:\s*,\s*[A-Za-z0-9._-]+)*\s*\])?"
    r"\s*(?:\(?\s*(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+(?:\s*,\s*(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+)*\s*,?\s*\)?)?"
    rf"\s*(?:;\s*{_MARKER}\s*)?$",
)


def check_requirements(requirements: Iterable[str]) -> tuple[str, ...]:
    """The requirements as they are, stripped. Raises: Problem 422 `bad_requirement`."""
    kept: list[str] = []
    for requirement in requirements:
        text = requirement.strip()
        if not _REQUIREMENT.fullmatch(text):
            shown = re.sub(r"[^\x20-\x7e]", "?", text)[:100]
            raise Problem(
                422, "bad_requirement",
                f"{shown!r} is not a requirement such as `scikit-learn==1.5.*`; options, paths and addresses are not taken.",
                field="environment.packages",
            )
        kept.append(text)
    return tuple(kept)
