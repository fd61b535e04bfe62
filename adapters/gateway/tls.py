"""Where the gateway may listen, and the certificate it shows there."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path

from core.errors import Invalid


def listening(host: str, tls: bool) -> str:
    """The address to listen on. Raises: Invalid when keys would cross a network unencrypted, or for what is no address."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Invalid(f"The gateway listens on an IP address, not on {host!r}.") from None
    if not address.is_loopback and not tls:
        raise Invalid(f"The gateway listens on {host} only with TLS: give it a certificate and a key.")
    return host


def named(host: str) -> str:
    """How callers write the host: a wildcard address is replaced by this machine's name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.getfqdn()
    return f"[{host}]" if address.version == 6 else host


def pair(certificate: Path, key: Path) -> tuple[str, str]:
    """The two files' PEM text. Raises: Invalid when they cannot be read or do not belong together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        return certificate.read_text(), key.read_text()
    except (OSError, ValueError) as problem:
        raise Invalid(f"The gateway cannot use the certificate {certificate} with the key {key}: {problem}") from None
