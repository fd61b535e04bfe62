"""How a worker is started: its sandbox, its environment, the supervising process over it, which outlives the server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import foldline
from adapters.serving.folders import ReplicaFolder
from adapters.serving.outliving import Process, start
from core.ports import ReplicaOrder
from foldline.node.cgroups import Cgroups
from foldline.node.sandbox import Sandbox, local_sources, scrubbed_environment, starter
from foldline.node.supervise import encode

LOG_BYTES_MAX = 8 * 1024 * 1024
PIDS_MAX = 1024
OURS = ("PATH=/usr/bin:/bin", "LANG=C.UTF-8")
"""All that bubblewrap and setpriv see while they are root; the worker's own variables come from a file, inside."""

PACKAGE_FILES = ("__init__.py", "script.py", "serving/*.py")

_WORKER = "import sys; sys.path.append(sys.argv[1]); from foldline.serving.worker import main; sys.exit(main())"
_KEEPER = "import sys; sys.path.insert(0, sys.argv[1]); from foldline.serving.keeper import main; main()"


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What was prepared for a replica: folders that it reads."""

    model: Path
    code: Path
    environment: Path
    library: Path
    """An environment that holds what the worker itself needs; it comes last on the import path."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """What is the same for all replicas of a pool."""

    sandbox: Sandbox
    cgroups: Cgroups
    gateway_gid: int | None
    body_bytes_max: int
    memory_bytes: int
    packages: Path
    """The folder below which copies of the package `foldline` lie."""

    def launch(self, folder: ReplicaFolder, order: ReplicaOrder, uid: int, ingredients: Ingredients) -> Process:
        """Starts the worker under its supervising process. Blocks for some milliseconds. Raises: OSError."""
        self._lay_out(folder, uid)
        python = str(ingredients.environment / "bin" / "python")
        library = map(str, ingredients.library.glob("lib/python3*/site-packages"))
        imported = package(self.packages)
        surroundings = variables(order, folder, ingredients, imported, self.body_bytes_max)
        argv = self.sandbox.argv(
            starter(folder.start, surroundings, [python, "-c", _WORKER, *library], uid),
            folder=folder.work, uid=uid, temporary=folder.temporary, identity=folder.path / "identity",
            read_only=[*dict.fromkeys([
                ingredients.model, ingredients.code, ingredients.environment, ingredients.library, imported, folder.start,
                *local_sources(os.environ),
            ])],
            writable=[folder.work, folder.socket.parent],
        )
        procs = self.cgroups.make(cgroup_name(folder), pids_max=PIDS_MAX, memory_bytes=self.memory_bytes)
        return _keeper(folder, encode({
            "control": [str(folder.control)], "grace": ["10"], "log_bytes_max": [str(LOG_BYTES_MAX)], "uid": [str(uid)], "argv": argv,
            "environment": list(OURS), "cgroups": procs, "folder": [str(folder.work)], "time_limit": ["0"], "lease": ["0"],
        }))

    def admit(self, folder: ReplicaFolder, uid: int) -> None:
        """The worker listens: from now on it can put nothing else in its socket's place."""
        if os.geteuid() == 0 and self.gateway_gid is not None:
            folder.socket.parent.chmod(0o750)
            os.chown(folder.socket.parent, 0, self.gateway_gid)

    def clear(self, folder: ReplicaFolder) -> None:
        """Takes away all that is left of a replica that has ended."""
        self.cgroups.remove(cgroup_name(folder))
        shutil.rmtree(folder.socket.parent, ignore_errors=True)
        shutil.rmtree(folder.path, ignore_errors=True)

    def _lay_out(self, folder: ReplicaFolder, uid: int) -> None:
        for name in ("process", "exit", "stop"):
            (folder.control / name).unlink(missing_ok=True)
        for own in (folder.work, folder.temporary):
            own.mkdir(mode=0o700, exist_ok=True)
            self.sandbox.own(own, uid)
        identity = folder.path / "identity"
        identity.mkdir(mode=0o755, exist_ok=True)
        (identity / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\nworker:x:{uid}:{uid}:worker:/tmp:/bin/sh\n")
        (identity / "group").write_text(f"root:x:0:\nworker:x:{uid}:\n")
        place = folder.socket.parent
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0 and self.gateway_gid is not None:
            os.chown(place, uid, self.gateway_gid)
            place.chmod(0o2750)  # what is made in it belongs to the gateway's group
        else:
            self.sandbox.own(place, uid)


def variables(
    order: ReplicaOrder, folder: ReplicaFolder, ingredients: Ingredients, imported: Path, body_bytes_max: int,
) -> dict[str, str]:
    """The worker's surroundings: the deployment's own variables under those that make it a worker."""
    own = order.environment_variables
    path = os.pathsep.join(filter(None, (str(imported), own.get("PYTHONPATH", ""))))
    return {
        **scrubbed_environment(os.environ),
        "PATH": f"{ingredients.environment}/bin:/usr/local/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(ingredients.environment),
        "HOME": "/tmp", "USER": "worker", "TMPDIR": "/tmp",  # noqa: S108  # the worker's own /tmp
        "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "SCORING_TIMEOUT_MS": order.settings.get("request_timeout_ms", "60000"),
        **own,
        "PYTHONPATH": path,
        "AZUREML_MODEL_DIR": str(ingredients.model), "AZUREML_ENTRY_SCRIPT": order.scoring_script, "AML_APP_ROOT": str(ingredients.code),
        "FOLDLINE_CONCURRENT_MAX": order.settings.get("max_concurrent_requests_per_instance", "32"),
        "FOLDLINE_BODY_BYTES_MAX": str(body_bytes_max),
        "FOLDLINE_SERVING_SOCKET": str(folder.socket),
    }


def cgroup_name(folder: ReplicaFolder) -> str:
    return f"serving-{folder.socket.parent.name}"


def package(directory: Path) -> Path:
    """A folder with a copy of what workers import of `foldline`, readable for any uid; another content is another folder."""
    source = Path(foldline.__file__).parent
    files = sorted(path for pattern in PACKAGE_FILES for path in source.glob(pattern))
    content = hashlib.sha256(b"\0".join(bytes(path.relative_to(source)) + b"\0" + path.read_bytes() for path in files)).hexdigest()[:16]
    place = directory / content
    if not place.exists():
        new = directory / f".{content}.{secrets.token_hex(6)}"
        shutil.rmtree(new, ignore_errors=True)
        for path in files:
            copy = new / "foldline" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with contextlib.suppress(OSError):  # another start was as quick
            new.rename(place)
        shutil.rmtree(new, ignore_errors=True)
    return place


def _keeper(folder: ReplicaFolder, order_text: bytes) -> Process:
    reader, writer = os.pipe()
    try:
        source = str(Path(foldline.__file__).parent.parent)
        with (folder.control / "keeper.log").open("ab") as output:
            process = start(
                [sys.executable, "-I", "-S", "-c", _KEEPER, source], output=output, environment=dict(pair.split("=", 1) for pair in OURS),
                folder=folder.control, stdin=reader, session=False,
            )
        os.close(reader)
        reader = -1
        with os.fdopen(writer, "wb") as pipe:
            writer = -1
            pipe.write(order_text)
    finally:
        for descriptor in (reader, writer):
            if descriptor >= 0:
                os.close(descriptor)
    return process


