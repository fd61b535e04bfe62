"""The vault's key: 32 random bytes in a file of the server's user alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

KEY_BYTES = 32
KEY_TEXT_BYTES = 2 * KEY_BYTES + 1
"""Hexadecimal, with a line end: an operator can copy it."""


class VaultRefused(Exception):
    """The vault cannot be opened safely; the message says why and what to do."""


def read_key(path: Path) -> bytes | None:
    """The key, or None when there is no file. Raises: VaultRefused when others could read it, or it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VaultRefused(f"The vault's key {path} cannot be opened ({error.strerror}); it must be a plain file, no link.") from error
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise VaultRefused(f"The vault's key {path} is no plain file.")
        if seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
            raise VaultRefused(
                f"The vault's key {path} can be read by others (mode {stat.S_IMODE(seen.st_mode):04o}, owner {seen.st_uid}); make it yours "
                "alone (chmod 600), and renew the secrets if somebody may have read it."
            )
        text = os.read(descriptor, KEY_TEXT_BYTES + 1)
    finally:
        os.close(descriptor)
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultRefused(f"The vault's key {path} is damaged; restore it from your backup.")
    return key


def make_key(path: Path) -> bytes:
    """A new key in a new file, complete or not at all; of two servers at once both get the first one's. Raises: VaultRefused."""
    _own_folder(path.parent)
    key = secrets.token_bytes(KEY_BYTES)
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, key.hex().encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(half, path, follow_symlinks=False)
    except FileExistsError:
        return _must_read(path)
    finally:
        half.unlink()
    _sync_folder(path.parent)
    return key


def _must_read(path: Path) -> bytes:
    key = read_key(path)
    if key is None:
        raise VaultRefused(f"The vault's key {path} went away while it was being made.")
    return key


def _own_folder(folder: Path) -> None:
    """Makes the folder with mode 0700, or checks that it is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True)
        return
    except FileExistsError:
        pass
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise VaultRefused(f"The folder of secrets {folder} is open to others; make it yours alone (chmod 700).")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
