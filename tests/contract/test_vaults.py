"""Both vaults under the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.memory.vault import MemoryVault
from adapters.postgres.pool import Database
from adapters.vault.vault import SealedVault, open_vault
from tests.contract.vault import VaultContract


class TestMemoryVault(VaultContract):
    @pytest.fixture
    def vault(self) -> MemoryVault:
        return MemoryVault()


class TestSealedVault(VaultContract):
    @pytest.fixture
    async def vault(self, database: Database, tmp_path: Path) -> SealedVault:
        return await open_vault(database, tmp_path / "secrets" / "vault.key")
