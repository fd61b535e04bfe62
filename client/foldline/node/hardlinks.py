"""A folder tree copied as `cp -al` does: own folders, shared files."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def copy(source: Path, target: Path, uid: int) -> None:
    """Copies the tree: folders new and `uid`'s (when root), files hard links, symlinks copied. Files are copied across file systems."""
    root = os.getuid() == 0
    waiting = [(str(source), str(target))]
    link = os.link
    while waiting:
        here, there = waiting.pop()
        os.mkdir(there, 0o755)  # noqa: PTH102  hot: thousands of entries
        if root:
            os.chown(there, uid, uid)
        with os.scandir(here) as entries:
            for entry in entries:
                new = f"{there}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, new))
                elif entry.is_symlink():
                    os.symlink(os.readlink(entry.path), new)  # noqa: PTH115, PTH211
                else:
                    try:
                        link(entry.path, new, follow_symlinks=False)
                    except OSError as problem:
                        if problem.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                            raise
                        shutil.copy2(entry.path, new)


def own_folders(tree: Path, uid: int) -> None:
    """Gives the folders of a copy to another uid; the files stay shared."""
    if os.getuid() != 0:
        return
    os.chown(tree, uid, uid)
    for root, folders, _ in os.walk(tree):
        for name in folders:
            os.chown(f"{root}/{name}", uid, uid, follow_symlinks=False)


def make_files_read_only(tree: Path) -> None:
    """So that a script of the same user cannot write through a hard link by accident."""
    for root, _, files in os.walk(tree):
        for name in files:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
