"""Which server, whose token, which workspace: arguments over environment over the configuration file.

The file (0600) is $FOLDLINE_CONFIG, else $XDG_CONFIG_HOME/foldline/config.json, else ~/.config/foldline/config.json. Tokens are kept per
server, so that a token never travels to another server than the one that it was given for. The only reader of the environment in the client
(the script's run context and the node agent have their own).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldline.problems import BadInput

SERVER_KEYS = ("workspace", "token", "ca_file", "user")
FILE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client talks to, and as whom."""

    url: str
    token: str | None = None
    workspace: str | None = None
    ca_file: str | None = None
    trace_parent: str = ""


@dataclass(slots=True)
class Configuration:
    """The configuration file's content; `save` writes it."""

    path: Path
    url: str | None = None
    output: str | None = None
    servers: dict[str, dict[str, str]] = field(default_factory=dict)

    def server(self, url: str) -> dict[str, str]:
        return self.servers.setdefault(normal_url(url), {})

    def save(self) -> None:
        """Writes the file for its user alone, by rename."""
        content = {"url": self.url, "output": self.output, "servers": self.servers}
        write_private(self.path, json.dumps({k: v for k, v in content.items() if v}, indent=2) + "\n")


def load(environ: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration file, or an empty one.

    Raises: BadInput when the file is a link, may be written by others, holds an unknown key or a wrong type.
    """
    path = file_of(environ)
    text = read_private(path)
    if text is None:
        return Configuration(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path} is no valid JSON ({error}); correct or remove it.", code="bad_config") from None
    return _checked(path, content)


def resolve(
    url: str | None = None,
    workspace: str | None = None,
    token: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Puts together where to go. Raises: BadInput when no server is known."""
    configuration = load(environ)
    chosen = url or environ.get("FOLDLINE_URL") or configuration.url
    if not chosen:
        raise BadInput("No server is known: run `foldline login URL`, or set FOLDLINE_URL and FOLDLINE_TOKEN.", code="no_server")
    chosen = normal_url(chosen)
    kept = configuration.servers.get(chosen, {})
    in_environment = normal_url(environ["FOLDLINE_URL"]) if environ.get("FOLDLINE_URL") else chosen
    token_of_environment = environ.get("FOLDLINE_TOKEN") if in_environment == chosen else None
    return Target(
        url=chosen,
        token=token or token_of_environment or kept.get("token"),
        workspace=workspace or environ.get("FOLDLINE_WORKSPACE") or kept.get("workspace"),
        ca_file=environ.get("FOLDLINE_CA_FILE") or kept.get("ca_file"),
        trace_parent=environ.get("TRACEPARENT", ""),
    )


def patience_seconds(otherwise: float, environ: Mapping[str, str] = os.environ) -> float:
    """How long the command line tries to reach the server: FOLDLINE_PATIENCE_SECONDS. Raises: BadInput."""
    text = environ.get("FOLDLINE_PATIENCE_SECONDS", "")
    try:
        return float(text) if text else otherwise
    except ValueError:
        raise BadInput(f"FOLDLINE_PATIENCE_SECONDS is {text!r}, which is no number.", code="bad_config") from None


def wants_traces(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the command line shows Python's traces (FOLDLINE_TRACEBACK)."""
    return bool(environ.get("FOLDLINE_TRACEBACK"))


def file_of(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the configuration file is, or would be."""
    if given := environ.get("FOLDLINE_CONFIG"):
        return Path(given)
    if xdg := environ.get("XDG_CONFIG_HOME"):
        return Path(xdg) / "foldline" / "config.json"
    return Path(environ.get("HOME") or "~").expanduser() / ".config" / "foldline" / "config.json"


def normal_url(url: str) -> str:
    """`http://host:port[/prefix]` without a slash at its end. Raises: BadInput for anything else, credentials included."""
    text = url.strip().rstrip("/")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or not rest or any(c in text for c in " \t\r\n?#\\"):
        raise BadInput(f"{url!r} is no server address; one looks like http://127.0.0.1:8470.", code="bad_url")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise BadInput("A server address carries no user or password; give the token to `foldline login`.", code="bad_url")
    return f"{scheme.lower()}://{authority.lower()}{slash}{path}"


def read_private(path: Path) -> str | None:
    """The text of a file of ours; None when there is none. Raises: BadInput when it is not safely ours."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        sentence = f"{path} cannot be read as a plain file ({error.strerror}); remove it and log in again."
        raise BadInput(sentence, code="bad_config") from None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o022:
            raise BadInput(f"{path} can be changed by others; run `chmod 600 {path}` after checking it.", code="bad_config")
        if facts.st_mode & 0o044 and facts.st_uid == os.geteuid():
            os.fchmod(file.fileno(), 0o600)
        return file.read(FILE_BYTES_MAX).decode(errors="replace")


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its user can read (folder 0700, file 0600), in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    part.replace(path)


def _checked(place: Path, content: Any) -> Configuration:
    if not isinstance(content, dict) or not isinstance(content.get("servers", {}), dict):
        raise BadInput(f"{place} does not hold what it should; remove it and log in again.", code="bad_config")
    if unknown := sorted(set(content) - {"url", "output", "servers"}):
        raise BadInput(f"{place} has an unknown key {unknown[0]!r}; remove it.", code="bad_config")
    servers: dict[str, dict[str, str]] = {}
    for url, server in content.get("servers", {}).items():
        if not isinstance(server, dict) or not all(isinstance(value, str) for value in server.values()):
            raise BadInput(f"{place}: the entry of {url} holds something that is no text.", code="bad_config")
        if unknown := sorted(set(server) - set(SERVER_KEYS)):
            raise BadInput(f"{place}: the entry of {url} has an unknown key {unknown[0]!r}; remove it.", code="bad_config")
        servers[normal_url(url)] = dict(server)
    for key in ("url", "output"):
        if content.get(key) is not None and not isinstance(content[key], str):
            raise BadInput(f"{place}: {key!r} must be text.", code="bad_config")
    return Configuration(place, content.get("url"), content.get("output"), servers)
