"""Where a folder's code comes from, when it is a git checkout: repository, branch, commit, dirty. No authors, no userinfo."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

TIMEOUT_SECONDS = 10.0
SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat", "-c", "protocol.allow=never")
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CONFIG_HOME", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class GitFacts:
    """`branch` is None on a detached head; `dirty` counts untracked files too."""

    commit: str
    dirty: bool
    repository: str | None = None
    branch: str | None = None


def facts(folder: Path) -> GitFacts | None:
    """What git says about `folder` (blocking); None when it is no checkout, has no commit, or git is missing or slow."""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit is None or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return None
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none", "--", ".")
    remote = _git(folder, "config", "--get", "remote.origin.url")
    return GitFacts(commit=commit, dirty=changes is None or changes != "", repository=without_userinfo(remote or ""), branch=branch or None)


def without_userinfo(url: str) -> str | None:
    """The address without user, password, query and fragment; None for a path of this machine, which says nothing elsewhere."""
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme == "file" or not parts.hostname:
            return None
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    host, separator, path = url.partition(":")
    if not separator or "/" in host or "\\" in path or len(host) < 2:
        return None
    return f"{host.rpartition('@')[2]}:{path}"


def _git(folder: Path, *arguments: str) -> str | None:
    """One answer of git, or None when it refuses. Repository hooks, monitors and transports do not run."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            ["git", *SAFE, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
