"""What every script of a node is shown beside its own: the `foldline` package, and an /etc in which its uid has a name."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import uuid
from pathlib import Path

import foldline
from foldline.node.sandbox import ETC


def lay_out(cache: Path) -> Path:
    """A folder for PYTHONPATH that holds this `foldline` and nothing else of the agent's environment; made once per version."""
    source = Path(foldline.__file__).parent
    files = sorted(path for path in source.rglob("*") if path.suffix == ".py" or path.name == "py.typed")
    digest = hashlib.sha256("".join(f"{path}{path.stat().st_mtime_ns}{path.stat().st_size}" for path in files).encode()).hexdigest()[:16]
    target = cache / digest
    if not target.exists():
        making = cache / uuid.uuid4().hex
        for path in files:
            copy = making / "foldline" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o644)
        for folder in (making, *(path for path in making.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        try:
            making.rename(target)
        except OSError:
            shutil.rmtree(making, ignore_errors=True)
    return target


def etc(home: Path, uids: range) -> Path:
    """A folder to be every script's /etc: the parts of this machine's that it needs, and a name for its uid.

    One mount takes a script's start 4 ms less than one for each part. It is made again when a part has changed; runs keep theirs.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o755)
    parts = [path for name in ETC if (path := Path("/etc", name)).exists()]
    facts = "".join(f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}\n" for path in parts)
    target = home / hashlib.sha256(f"{facts}{uids}".encode()).hexdigest()[:16]
    if target.exists():
        return target
    making = home / uuid.uuid4().hex
    making.mkdir(mode=0o755)
    for path in parts:
        if path.is_dir():
            shutil.copytree(path, making / path.name, symlinks=True, ignore=_closed, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, making / path.name)
    for name, text in _names(uids).items():
        (making / name).write_text(text)
        (making / name).chmod(0o644)
    try:
        making.rename(target)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
    return target


def _closed(folder: str, names: list[str]) -> list[str]:
    """What other users may not read is not copied: private keys, say."""
    hidden: list[str] = []
    for name in names:
        facts = os.lstat(f"{folder}/{name}")
        needed = {stat.S_IFDIR: 0o005, stat.S_IFREG: 0o004, stat.S_IFLNK: 0}.get(stat.S_IFMT(facts.st_mode))
        if needed is None or facts.st_mode & needed != needed:
            hidden.append(name)
    return hidden


def _names(uids: range) -> dict[str, str]:
    """`passwd` and `group` with root, nobody and the uids of this node."""
    users = [*((uid, f"foldline{'' if uid == uids[0] else uid}") for uid in uids), *([] if 0 in uids else [(0, "root")]), (65534, "nobody")]
    return {
        "passwd": "".join(f"{name}:x:{uid}:{uid}::/tmp:/bin/sh\n" for uid, name in users),
        "group": "".join(f"{name}:x:{uid}:\n" for uid, name in users),
    }
