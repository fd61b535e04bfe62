"""What every vault promises. A test class subclasses this and gives a fixture `vault`."""

from __future__ import annotations

import re

from core.ids import WorkspaceId
from core.ports import Vault

W1, W2 = WorkspaceId("ws-one"), WorkspaceId("ws-two")


class VaultContract:
    async def test_a_secret_is_got_back_byte_for_byte(self, vault: Vault) -> None:
        for number, secret in enumerate((b"key", b"", bytes(range(256)))):
            await vault.put(W1, f"endpoint/digits/primary/{number}", secret)
            assert await vault.get(W1, f"endpoint/digits/primary/{number}") == secret

    async def test_a_newer_secret_replaces_the_older(self, vault: Vault) -> None:
        await vault.put(W1, "a", b"1")
        await vault.put(W1, "a", b"2")
        assert await vault.get(W1, "a") == b"2"

    async def test_another_workspace_has_not_got_it(self, vault: Vault) -> None:
        await vault.put(W1, "a", b"1")
        assert await vault.get(W2, "a") is None
        await vault.delete(W2, "a")
        assert await vault.get(W1, "a") == b"1"

    async def test_a_deleted_secret_is_gone_and_may_be_deleted_again(self, vault: Vault) -> None:
        await vault.put(W1, "a", b"1")
        await vault.delete(W1, "a")
        await vault.delete(W1, "a")
        assert await vault.get(W1, "a") is None

    async def test_a_derived_text_depends_on_purpose_and_text_alone(self, vault: Vault) -> None:
        token = vault.derive("run-token", "ws:run:1")
        assert re.fullmatch(r"[0-9a-f]{64}", token)
        assert vault.derive("run-token", "ws:run:1") == token
        others = {vault.derive("node-token", "ws:run:1"), vault.derive("run-token", "ws:run:2"), vault.derive("run-tokenw", "s:run:1")}
        assert token not in others and len(others) == 3
