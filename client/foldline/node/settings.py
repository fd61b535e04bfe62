"""An agent's settings: its config file, checked, with the limits of a run on this node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from foldline.node.http import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`server`, `token`, `directory` and `slots` are needed; all others have a default. Times are in seconds."""

    server: str
    token: str
    directory: Path
    slots: int = 1
    cache: Path
    """Environments and snapshots, shared by the agents of a machine; default `<directory>/cache`."""
    ca_file: str | None = None
    python: str | None = None
    """The interpreter of runs that ask for no version; default the newest of /usr."""
    memory_bytes: int
    """Of one slot; default 90 % of the machine's, shared by the slots."""
    pids_max: int = 1024
    """Of one slot."""
    log_bytes_max: int = 1 << 30
    output_file_bytes_max: int = 20 << 30
    output_bytes_max: int = 50 << 30
    pace_seconds: float = 0.1
    """At most one batch of each source per pace."""
    sample_seconds: float = 5.0
    backoff_first_seconds: float = 0.1
    backoff_longest_seconds: float = 5.0
    refused_seconds: float = 30.0
    """So long the server may refuse the node's token before the agent believes it and ends its runs."""
    log: str | None = None

    @property
    def backoff(self) -> Backoff:
        return Backoff(self.backoff_first_seconds, self.backoff_longest_seconds)


def read(path: Path) -> Settings:
    """Raises: ValueError with a sentence."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise ValueError(f"The agent's config {path} cannot be read: {problem}") from None
    return of(found)


def of(found: Mapping[str, object]) -> Settings:
    """Raises: ValueError with a sentence."""
    known = {field.name: field.type for field in fields(Settings)}
    unknown = sorted(set(found) - set(known))
    missing = sorted({"server", "token", "directory"} - set(found))
    if unknown or missing:
        raise ValueError(f"The agent's config has unknown keys {unknown} or lacks {missing}.")
    given = {name: value for name, value in found.items() if value is not None}
    slots = int(str(given.get("slots", 1)))
    directory = Path(str(given["directory"])).absolute()
    given |= {"directory": directory, "slots": slots, "cache": Path(str(given.get("cache") or directory / "cache")).absolute()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    given.setdefault("memory_bytes", int(memory * 0.9 / slots))
    return Settings(**given)  # type: ignore[arg-type]  # JSON values; wrong ones fail where they are used
