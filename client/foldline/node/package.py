"""What every script of a node is shown beside its own: the `foldline` package, and an /etc/passwd in which its uid has a name."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

import foldline


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


def identity(folder: Path, uids: range) -> Path:
    """`passwd` and `group` with root, nobody and the uids of this node."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    users = [*((uid, f"foldline{'' if uid == uids[0] else uid}") for uid in uids), *([] if 0 in uids else [(0, "root")]), (65534, "nobody")]
    passwd = "".join(f"{name}:x:{uid}:{uid}::/tmp:/bin/sh\n" for uid, name in users)
    group = "".join(f"{name}:x:{uid}:\n" for uid, name in users)
    for name, text in (("passwd", passwd), ("group", group)):
        making = folder / f"{name}.{os.getpid()}"
        making.write_text(text)
        making.chmod(0o644)
        making.rename(folder / name)
    return folder
