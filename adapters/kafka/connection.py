"""Where the brokers are and how one signs in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MECHANISM = "SCRAM-SHA-256"
RETRY_BACKOFF_MS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Brokers and one user; without a user there is no SASL, with `ca_file` there is TLS."""

    bootstrap: str
    """HOST:PORT, several with commas."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @property
    def protocol(self) -> str:
        sasl, tls = self.username is not None, self.ca_file is not None
        if sasl:
            return "SASL_SSL" if tls else "SASL_PLAINTEXT"
        return "SSL" if tls else "PLAINTEXT"

    def for_aiokafka(self) -> dict[str, Any]:
        """Arguments of aiokafka's producer and consumer."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap, "security_protocol": self.protocol, "retry_backoff_ms": RETRY_BACKOFF_MS,
        }
        if self.username is not None:
            arguments.update(sasl_mechanism=MECHANISM, sasl_plain_username=self.username, sasl_plain_password=self.password)
        if self.ca_file is not None:
            arguments["ssl_context"] = ssl.create_default_context(cafile=str(self.ca_file))
        return arguments

    def for_administration(self) -> dict[str, Any]:
        """Settings of confluent-kafka's AdminClient."""
        settings: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.username is not None:
            settings.update({"sasl.mechanism": MECHANISM, "sasl.username": self.username, "sasl.password": self.password})
        if self.ca_file is not None:
            settings["ssl.ca.location"] = str(self.ca_file)
        return settings
