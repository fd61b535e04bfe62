"""The only reader of the environment. Every setting is a variable `FOLDLINE_<NAME>`; an unknown one stops the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

CLIENT_VARIABLES = frozenset(
    f"FOLDLINE_{name}" for name in ("URL", "TOKEN", "WORKSPACE", "CONFIG", "CA_FILE", "PATIENCE_SECONDS", "TRACEBACK")
)
"""The client's own; they may stand in the same environment."""
TEST_PREFIX = "FOLDLINE_TEST_"


class SettingsError(Exception):
    """A setting that cannot be meant; the message says which and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are seconds. A field `x_y` is the variable `FOLDLINE_X_Y`."""

    data: Path = field(default_factory=lambda: default_data())
    """Where everything lies that is not in an external Postgres, Kafka or store."""
    host: str = "127.0.0.1"
    port: int = 8321
    gateway_port: int = 8322
    """Where endpoints answer; loopback unless TLS is given."""
    public_url: str = ""
    """The address in links; by default `http://HOST:PORT`."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    log: Literal["postgres", "kafka"] = "postgres"
    database_url: str = ""
    """An external Postgres; by default an embedded one is started."""
    database_password_file: Path | None = None
    kafka: str = ""
    """HOST:PORT of the brokers, for `log=kafka`."""
    kafka_security: Literal["none", "scram"] = "none"
    kafka_user: str = ""
    kafka_password_file: Path | None = None
    kafka_admin_user: str = ""
    """Makes topics and access lists at the start; by default the writer, and no access lists are made."""
    kafka_admin_password_file: Path | None = None
    kafka_single_broker: bool = False
    """Allows replication 1: for one machine."""
    kafka_prefix: str = "foldline"
    shards: int = 16
    """Partitions of the events topic; fixed when it is made. The Postgres log has one."""
    heartbeat_seconds: float = 2.0
    lease_seconds: float = 15.0
    unreachable_limit_seconds: float = 86_400.0
    cancel_grace_seconds: float = 10.0
    node_start_limit_seconds: float = 60.0
    tick_seconds: float = 1.0
    """How often actors look around without being told anything."""
    drain_seconds: float = 10.0
    replica_start_limit_seconds: float = 300.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @property
    def secrets(self) -> Path:
        return self.data / "secrets"

    @property
    def url(self) -> str:
        """The address under which clients reach the server."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"{'https' if self.tls_certificate else 'http'}://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """As a host is written in a URL."""
    return f"[{host}]" if ":" in host else host


def default_data() -> Path:
    """/var/lib/foldline as root, else the user's own data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/foldline")
    return Path(os.environ.get("XDG_DATA_HOME", str(Path.home() / ".local" / "share"))) / "foldline"


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment; `overrides` come from the command line and win.

    Raises: SettingsError.
    """
    environment = os.environ if environment is None else environment
    hints = get_type_hints(Settings)
    known = {f"FOLDLINE_{item.name.upper()}": item.name for item in fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith("FOLDLINE_") or variable in CLIENT_VARIABLES or variable.startswith(TEST_PREFIX):
            continue
        if variable not in known:
            raise SettingsError(f"There is no setting {variable}; `foldline-server settings` lists them.")
        values[known[variable]] = _parse(variable, text, hints[known[variable]])
    values.update({name: value for name, value in overrides.items() if value is not None})
    settings = Settings(**values)
    _check(settings)
    return settings


def _parse(variable: str, text: str, kind: Any) -> Any:
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if choices:
        if text not in choices:
            raise SettingsError(f"{variable} must be one of {', '.join(choices)}, not {text!r}.")
        return text
    if kind is bool:
        if text.lower() not in ("0", "1", "false", "true", "no", "yes"):
            raise SettingsError(f"{variable} must be true or false, not {text!r}.")
        return text.lower() in ("1", "true", "yes")
    try:
        if kind in (int, float):
            return kind(text)
    except ValueError:
        raise SettingsError(f"{variable} must be a number, not {text!r}.") from None
    if kind in (Path, Path | None):
        return Path(text)
    return text


def _check(settings: Settings) -> None:
    loopback = settings.host in ("127.0.0.1", "::1", "localhost")
    if not loopback and (settings.tls_certificate is None or settings.tls_key is None):
        raise SettingsError(
            f"Listening on {settings.host} needs TLS: set FOLDLINE_TLS_CERTIFICATE and FOLDLINE_TLS_KEY (PEM files), "
            "or listen on 127.0.0.1 behind a proxy that does it."
        )
    if settings.log == "kafka" and not settings.kafka:
        raise SettingsError("FOLDLINE_LOG=kafka needs FOLDLINE_KAFKA=HOST:PORT.")
    if settings.kafka_security == "scram" and not (settings.kafka_user and settings.kafka_password_file):
        raise SettingsError("FOLDLINE_KAFKA_SECURITY=scram needs FOLDLINE_KAFKA_USER and FOLDLINE_KAFKA_PASSWORD_FILE.")
    for name in ("heartbeat_seconds", "lease_seconds", "tick_seconds", "cancel_grace_seconds"):
        if getattr(settings, name) <= 0:
            raise SettingsError(f"FOLDLINE_{name.upper()} must be over 0.")
    if settings.lease_seconds < 2 * settings.heartbeat_seconds:
        raise SettingsError("FOLDLINE_LEASE_SECONDS must be at least twice FOLDLINE_HEARTBEAT_SECONDS.")
