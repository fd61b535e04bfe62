"""Makes .venv from the committed lock: every package by its hash, our two distributions editable. Standard library only."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this script is what tells people on an older Python
        print(f"Foldline needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make demo PYTHON=python3.11")
        return 1
    started = time.monotonic()
    print("Setting up: a virtual environment in .venv, from requirements.lock (every package checked by its hash) …", flush=True)
    python = VENV / "bin" / "python"
    if not python.exists() or not (VENV / "bin" / "pip").exists():
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False, capture_output=True, text=True)
        if made.returncode:
            print(f"`python3 -m venv` failed: {made.stdout.strip()} {made.stderr.strip()}\nOn Debian: apt-get install python3-venv")
            return 1
    _install_uv(python)
    uv = str(VENV / "bin" / "uv")
    _run(uv, "pip", "sync", "--quiet", "--require-hashes", str(LOCK), "--python", str(python), "--allow-empty-requirements")
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", "client", "-e", ".", "--python", str(python))
    (VENV / ".ready").write_text(f"{time.time()}\n")
    print(f"Ready in {time.monotonic() - started:.0f} s.", flush=True)
    return 0


def _install_uv(python: Path) -> None:
    """uv itself, by the hashes that the lock has for it."""
    block = re.search(r"^uv==.*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("requirements.lock does not name uv; run `make lock` on a machine that has it.")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(block.group(0))
        requirement.flush()
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", requirement.name)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"Setting up failed at: {' '.join(argv)}")


if __name__ == "__main__":
    raise SystemExit(main())
