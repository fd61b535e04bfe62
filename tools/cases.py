"""Runs public job files against a server of its own: those that Foldline has must pass, every other must answer `not_yet`.

`tools/cases.py FOLDER` looks for `*.yml` below FOLDER. A `code: src` that is not there is made of a few files of our own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import server_process

PASS = {
    "hello-world.yml": "hello world", "hello-world-env-var.yml": "hello world", "hello-world-input.yml": "42",
    "hello-world-org.yml": "hello world", "hello-world-output.yml": None, "hello-world-output-data.yml": None, "hello-code.yml": "hello.py",
}
NOT_YET = 7
FOLDLINE = str(server_process.BIN / "foldline")


def main() -> int:
    given = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="foldline-cases-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        files = shutil.copytree(given, folder / "cases")
        server = server_process.start("postgres", folder / "data")
        environment = {
            **os.environ, "FOLDLINE_URL": server.url, "FOLDLINE_TOKEN": server.token_file.read_text().strip(),
            "FOLDLINE_CONFIG": str(folder / "config.json"), "FOLDLINE_WORKSPACE": "cases",
        }
        try:
            return _try_all(sorted(files.rglob("*.yml")), environment)
        finally:
            server_process.down(server)


def _try_all(jobs: list[Path], environment: dict[str, str]) -> int:
    _run(environment, "workspace", "create", "cases")
    _run(environment, "compute", "create", "--name", "pool", "--max-instances", "2")
    passed = failed = 0
    for job in jobs:
        problem = _try(job, environment)
        print(f"{'ok  ' if problem is None else 'FAIL'} {job.name}{'' if problem is None else ': ' + problem}", flush=True)
        passed, failed = passed + (problem is None), failed + (problem is not None)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def _try(job: Path, environment: dict[str, str]) -> str | None:
    """What is wrong, or None."""
    if job.name in PASS and "code: src" in job.read_text():
        (job.parent / "src").mkdir(exist_ok=True)
        (job.parent / "src" / "hello.py").write_text("print('hello')\n")
    done = _run(environment, "job", "create", "-f", str(job), "--stream", check=False)
    said = done.stdout + done.stderr
    if job.name not in PASS:
        return None if done.returncode == NOT_YET and "not_yet: " in said else f"exit {done.returncode}, wanted not_yet: {said[-300:]}"
    if done.returncode:
        return f"exit {done.returncode}: {said[-500:]}"
    wanted = PASS[job.name]
    if wanted is not None and wanted not in said:
        return f"{wanted!r} is not in what it printed: {said[-300:]}"
    warned = said.count("the node's Python")
    return None if warned >= 1 else f"no warning line about the image: {said[-300:]}"


def _run(environment: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FOLDLINE, *arguments], env=environment, check=check, capture_output=True, text=True, timeout=180)


if __name__ == "__main__":
    raise SystemExit(main())
