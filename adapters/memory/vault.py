"""The in-memory twin of the vault."""

from __future__ import annotations

import hashlib
import hmac

from core.ids import WorkspaceId


class MemoryVault:
    """Implements core.ports.Vault. `key` is what tokens are derived with."""

    def __init__(self, key: bytes = b"memory") -> None:
        self._key = key
        self._secrets: dict[tuple[WorkspaceId, str], bytes] = {}

    async def put(self, workspace: WorkspaceId, reference: str, secret: bytes) -> None:
        self._secrets[workspace, reference] = secret

    async def get(self, workspace: WorkspaceId, reference: str) -> bytes | None:
        return self._secrets.get((workspace, reference))

    async def delete(self, workspace: WorkspaceId, reference: str) -> None:
        self._secrets.pop((workspace, reference), None)

    def derive(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{len(purpose)}:{purpose}{text}".encode(), hashlib.sha256).hexdigest()
