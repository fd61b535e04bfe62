"""Secrets in the table `vault`, each sealed with AES-256-GCM and bound to its workspace and reference."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adapters.postgres.pool import Database
from adapters.vault.key_file import VaultRefused, make_key, read_key
from core.errors import EventTooLarge, Invalid
from core.ids import WorkspaceId

NONCE_BYTES = 12
SECRET_BYTES_MAX = 64 * 1024
CHECK = WorkspaceId("")
CHECK_REFERENCE = "the key of this vault"
CHECK_SECRET = b"foldline"

PUT = """
INSERT INTO vault (workspace, reference, nonce, ciphertext) VALUES ($1, $2, $3, $4)
ON CONFLICT (workspace, reference) DO UPDATE SET nonce = excluded.nonce, ciphertext = excluded.ciphertext"""
GET = "SELECT nonce, ciphertext FROM vault WHERE workspace = $1 AND reference = $2"
DELETE = "DELETE FROM vault WHERE workspace = $1 AND reference = $2"


class VaultDamaged(Exception):
    """A secret was changed in the database, or moved to another place in it."""


class SealedVault:
    """Implements core.ports.Vault. Made by `open_vault`. Raises Unavailable while the database is away."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._cipher = AESGCM(_derived(key, b"foldline vault: encryption, 1"))
        self._tokens = _derived(key, b"foldline vault: tokens, 1")

    async def put(self, workspace: WorkspaceId, reference: str, secret: bytes) -> None:
        """Stores or replaces. Raises: EventTooLarge over 64 KiB, Invalid for a reference that cannot be stored."""
        if len(secret) > SECRET_BYTES_MAX:
            raise EventTooLarge("secret", len(secret), SECRET_BYTES_MAX)
        bound = _bound(workspace, reference)
        nonce = os.urandom(NONCE_BYTES)
        await self._database.execute(PUT, workspace, reference, nonce, self._cipher.encrypt(nonce, secret, bound))

    async def get(self, workspace: WorkspaceId, reference: str) -> bytes | None:
        """Raises: VaultDamaged."""
        bound = _bound(workspace, reference)
        row = await self._database.fetchrow(GET, workspace, reference)
        if row is None:
            return None
        try:
            return self._cipher.decrypt(row["nonce"], row["ciphertext"], bound)
        except InvalidTag as error:
            raise VaultDamaged(f"The secret {reference!r} of workspace {workspace!r} does not open with this vault's key.") from error

    async def delete(self, workspace: WorkspaceId, reference: str) -> None:
        _bound(workspace, reference)
        await self._database.execute(DELETE, workspace, reference)

    def derive(self, purpose: str, text: str) -> str:
        named = purpose.encode("utf-8", "surrogatepass")
        message = len(named).to_bytes(4, "big") + named + text.encode("utf-8", "surrogatepass")
        return hmac.new(self._tokens, message, hashlib.sha256).hexdigest()


async def open_vault(database: Database, key_file: Path) -> SealedVault:
    """The vault with its key, which is made at the first start.

    Raises: VaultRefused when others can read the key, when it is missing though the database has secrets, or is another one's.
    """
    sealed = await database.fetchrow(GET, CHECK, CHECK_REFERENCE)
    key = read_key(key_file)
    if key is None:
        if sealed is not None:
            raise VaultRefused(f"The database holds secrets, and their key {key_file} is gone; restore it from your backup.")
        key = make_key(key_file)
    vault = SealedVault(database, key)
    if sealed is None:
        await vault.put(CHECK, CHECK_REFERENCE, CHECK_SECRET)
    try:
        await vault.get(CHECK, CHECK_REFERENCE)
    except VaultDamaged as error:
        raise VaultRefused(f"The key {key_file} is not the one that this database's secrets were sealed with; restore that one.") from error
    return vault


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def _bound(workspace: WorkspaceId, reference: str) -> bytes:
    """`workspace|reference`: a sealed secret opens in its own place only."""
    if "|" in workspace or "\0" in workspace + reference:
        raise Invalid("A workspace's id holds no `|`, and no name holds NUL.")
    try:
        return f"{workspace}|{reference}".encode()
    except UnicodeEncodeError as error:
        raise Invalid("This reference is no valid Unicode.") from error
