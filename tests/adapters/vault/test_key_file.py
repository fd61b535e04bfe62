"""The vault's key file: who can read it, what is refused, and that a secret opens in its own place only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from adapters.postgres.pool import Database
from adapters.vault.key_file import VaultRefused, make_key, read_key
from adapters.vault.vault import VaultDamaged, open_vault
from core.errors import EventTooLarge, Invalid
from core.ids import WorkspaceId

W1, W2 = WorkspaceId("ws-one"), WorkspaceId("ws-two")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "vault.key"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_key_is_readable_by_its_user_alone_whatever_the_umask(key_file: Path) -> None:
    before = os.umask(0)
    try:
        make_key(key_file)
    finally:
        os.umask(before)
    assert (mode(key_file), mode(key_file.parent)) == (0o600, 0o700)
    assert [path.name for path in key_file.parent.iterdir()] == ["vault.key"]


def test_a_key_that_exists_is_never_replaced(key_file: Path) -> None:
    first = make_key(key_file)
    assert make_key(key_file) == first == read_key(key_file)


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_can_read_is_refused(key_file: Path, open_to: int) -> None:
    make_key(key_file)
    key_file.chmod(open_to)
    with pytest.raises(VaultRefused, match="can be read by others"):
        read_key(key_file)
    assert mode(key_file) == open_to


def test_a_link_is_no_key(key_file: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "elsewhere" / "key")
    key_file.parent.mkdir(mode=0o700)
    key_file.symlink_to(tmp_path / "elsewhere" / "key")
    with pytest.raises(VaultRefused, match="no link"):
        read_key(key_file)


def test_a_folder_open_to_others_is_refused_and_left_as_it_is(key_file: Path) -> None:
    key_file.parent.mkdir()
    key_file.parent.chmod(0o755)
    with pytest.raises(VaultRefused, match="chmod 700"):
        make_key(key_file)
    assert mode(key_file.parent) == 0o755 and not key_file.exists()


@pytest.mark.parametrize("content", [b"", b"short", b"zz" * 32, b"ab" * 40])
def test_a_damaged_key_is_refused(key_file: Path, content: bytes) -> None:
    key_file.parent.mkdir(mode=0o700)
    key_file.touch(0o600)
    key_file.write_bytes(content)
    with pytest.raises(VaultRefused, match="damaged"):
        read_key(key_file)


async def test_the_database_never_sees_a_secret(database: Database, key_file: Path) -> None:
    vault = await open_vault(database, key_file)
    await vault.put(W1, "a", b"a secret that is long enough to be found")
    row = await database.fetchrow("SELECT * FROM vault WHERE reference = 'a'")
    assert b"secret" not in bytes(row["ciphertext"]) and b"secret" not in bytes(row["nonce"])


async def test_the_same_secret_twice_is_sealed_differently(database: Database, key_file: Path) -> None:
    vault = await open_vault(database, key_file)
    await vault.put(W1, "a", b"same")
    await vault.put(W1, "b", b"same")
    rows = await database.fetch("SELECT nonce, ciphertext FROM vault WHERE workspace = $1", W1)
    assert len({row["nonce"] for row in rows}) == len({row["ciphertext"] for row in rows}) == 2


async def test_a_secret_that_was_changed_or_moved_does_not_open(database: Database, key_file: Path) -> None:
    vault = await open_vault(database, key_file)
    await vault.put(W1, "a", b"secret")
    await database.execute("INSERT INTO vault SELECT $1, reference, nonce, ciphertext FROM vault WHERE workspace = $2", W2, W1)
    await database.execute("INSERT INTO vault SELECT workspace, 'b', nonce, ciphertext FROM vault WHERE workspace = $1", W1)
    damage = "UPDATE vault SET ciphertext = set_byte(ciphertext, 0, 1 # get_byte(ciphertext, 0))"
    await database.execute(f"{damage} WHERE reference = 'a' AND workspace = $1", W1)
    for workspace, reference in ((W1, "a"), (W1, "b"), (W2, "a")):
        with pytest.raises(VaultDamaged):
            await vault.get(workspace, reference)


async def test_a_restart_opens_the_same_secrets_and_derives_the_same_tokens(database: Database, key_file: Path) -> None:
    vault = await open_vault(database, key_file)
    await vault.put(W1, "a", b"secret")
    again = await open_vault(database, key_file)
    assert await again.get(W1, "a") == b"secret"
    assert again.derive("run-token", "x") == vault.derive("run-token", "x")


async def test_a_lost_key_is_not_silently_replaced(database: Database, key_file: Path) -> None:
    await open_vault(database, key_file)
    key_file.unlink()
    with pytest.raises(VaultRefused, match="restore it"):
        await open_vault(database, key_file)
    assert not key_file.exists()
    make_key(key_file)
    with pytest.raises(VaultRefused, match="is not the one"):
        await open_vault(database, key_file)


async def test_what_cannot_be_stored_is_refused(database: Database, key_file: Path) -> None:
    vault = await open_vault(database, key_file)
    with pytest.raises(EventTooLarge):
        await vault.put(W1, "a", b"x" * 65_537)
    for workspace, reference in ((W1, "a\0"), (W1, "\ud800"), (WorkspaceId("a|b"), "c")):
        with pytest.raises(Invalid):
            await vault.put(workspace, reference, b"x")
