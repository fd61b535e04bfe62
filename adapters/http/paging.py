"""Cursors: sealed, and bound to the query and the workspace that they came from."""

from __future__ import annotations

import base64
import binascii
import hmac

from adapters.http.problems import malformed
from core.ports import Vault

CURSOR_CHARS_MAX = 2000


class Cursors:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, inner: str | None, bound_to: str) -> str | None:
        """What the next page is asked for with. None on the last page."""
        if inner is None:
            return None
        mac = self._vault.derive("cursor", f"{bound_to}|{inner}")[:24]
        return base64.urlsafe_b64encode(f"{mac}.{inner}".encode()).decode().rstrip("=")

    def open(self, cursor: str | None, bound_to: str) -> str | None:
        """Raises: Problem 400 when the cursor was edited, or came from another query or workspace."""
        if cursor is None:
            return None
        try:
            if len(cursor) > CURSOR_CHARS_MAX:
                raise ValueError
            text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        except (ValueError, binascii.Error):
            text = ""
        mac, dot, inner = text.partition(".")
        right = self._vault.derive("cursor", f"{bound_to}|{inner}")[:24]
        if not dot or not hmac.compare_digest(mac.encode(), right.encode()):
            raise malformed("This cursor does not belong to this list; begin again without one.", code="bad_cursor")
        return inner
