"""What a script may see and touch: bubblewrap and setpriv where they work, else a scrubbed environment and a sentence that says so.

As root `bwrap` keeps all capabilities and `--uid` only maps. So as root there is no user namespace: bwrap makes the other namespaces,
and inside it `setpriv` becomes a uid of this directory's block, without capabilities and without new privileges. As another user bwrap
works in a user namespace, and the script keeps the agent's uid there.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

UID_FIRST = 210_000
UIDS_PER_DIRECTORY = 128
BUILDER_UID = 209_999
REGISTRY = Path("/run/foldline/uid-blocks")
TEMPORARY_BYTES_MAX = 1 << 30
PROBE_SECONDS = 10.0

ETC = (
    "ssl", "ca-certificates", "pki", "resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services", "protocols", "localtime",
    "timezone", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "os-release", "debian_version", "mime.types", "pip.conf", "uv",
    "fonts", "python3", "python3.11", "locale.alias", "OpenCL", "vulkan",
)
KEPT_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LANG", "TZ")
KEPT_PREFIXES = ("PIP_", "UV_")
KEPT_SUFFIXES = ("_PROXY", "_proxy")
LOCAL_VARIABLES = (
    "PIP_FIND_LINKS", "UV_FIND_LINKS", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE", "PIP_CONFIG_FILE",
    "UV_CONFIG_FILE",
)
SHELL_OWN = frozenset({"UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"})
"""Read-only in the shell that exports the variables."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NOT_KEPT = frozenset({"UV_CACHE_DIR", "PIP_CACHE_DIR", "UV_PROJECT_ENVIRONMENT", "PIP_TARGET", "PIP_PREFIX", "UV_PYTHON", "PIP_USER"})


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How scripts are fenced here: `root` (bwrap and setpriv), `user` (bwrap in a user namespace) or `none`."""

    kind: Literal["root", "user", "none"]
    reason: str = ""
    """Why it is not the strongest; empty for `root`."""
    system: tuple[str, ...] = ()
    """bwrap's options for the parts of the system that every script sees."""
    etc: tuple[str, ...] = ()
    """Those for /etc, where the caller has no folder of its own for it."""
    disable_user_namespaces: bool = True

    @classmethod
    def probe(cls) -> Sandbox:
        """Tries what works here. Never raises."""
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            return cls("none", "bubblewrap is not installed (apt install bubblewrap)")
        system, etc = tuple(_system()), tuple(_etc())
        reason = ""
        if os.getuid() == 0:
            if shutil.which("setpriv") is None:
                return cls("none", "setpriv is not installed (apt install util-linux)")
            found = cls("root", "", system, etc)
            reason = found.tried(UID_FIRST)
            if not reason:
                return found
        for strict in (True, False):
            found = cls("user", "the agent does not run as root: scripts share its user", system, etc, strict)
            problem = found.tried(os.getuid())
            if not problem and os.getuid() != 0:
                return found
            reason = reason or problem
        return cls("none", f"bubblewrap does not work here: {reason}")

    def tried(self, uid: int) -> str:
        """'' when a command runs in it, else what was said."""
        argv = self.argv(["/bin/true"], folder=Path("/usr"), uid=uid)
        try:
            done = subprocess.run(argv, env={}, capture_output=True, timeout=PROBE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            return str(problem)[:200]
        return "" if done.returncode == 0 else (done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")[:200]

    @property
    def text(self) -> str:
        """One sentence for people: what fences a script here."""
        match self.kind:
            case "root":
                return "bubblewrap with a uid of its own, no capabilities, no new privileges; sees its own folder and processes only"
            case "user":
                return f"bubblewrap in a user namespace, no capabilities; sees its own folder and processes only; {self.reason}"
            case "none":
                return f"no sandbox, a scrubbed environment only: {self.reason}"

    def argv(
        self, command: Sequence[str], *, folder: Path, read_only: Sequence[Path] = (), writable: Sequence[Path] = (),
        uid: int, temporary: Path | None = None, etc: Path | None = None, identity: Path | None = None, processes_max: int | None = None,
    ) -> list[str]:
        """The argv that runs `command` in `folder` and sees only system files, `read_only`, `writable`, each at its own path.

        /tmp is `temporary`, or a tmpfs. `etc` is a folder to be /etc (`package.etc`): one mount in place of twenty; else `identity` may
        hold `passwd` and `group`. The caller's environment reaches the command: give the exec a scrubbed one. `writable` folders
        (`folder` is one unless another covers it) must be the uid's: see `own`.
        """
        become = _become(uid, processes_max)
        if self.kind == "none":
            return [*become, *command]
        argv = [shutil.which("bwrap") or "/usr/bin/bwrap", "--die-with-parent", "--new-session"]
        argv += ["--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        if self.kind == "user":
            argv += ["--unshare-user", "--cap-drop", "ALL", *(["--disable-userns"] if self.disable_user_namespaces else [])]
        argv += self.system
        argv += self.etc if etc is None else ["--ro-bind", str(etc), "/etc"]
        for name in ("passwd", "group") if identity is not None else ():
            argv += ["--ro-bind", f"{identity}/{name}", f"/etc/{name}"]
        if temporary is not None:
            argv += ["--bind", str(temporary), "/tmp"]  # noqa: S108  the script's own /tmp
        else:
            argv += ["--perms", "1777", "--size", str(TEMPORARY_BYTES_MAX), "--tmpfs", "/tmp"]  # noqa: S108
        argv += _binds(folder, read_only, writable)
        return [*argv, "--chdir", str(folder), "--", *become, *command]

    def own(self, path: Path, uid: int) -> None:
        """Gives a folder tree to the uid, links themselves and not what they point at; nothing when the agent is not root."""
        if os.getuid() != 0:
            return
        os.chown(path, uid, uid, follow_symlinks=False)
        for root, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(os.path.join(root, name), uid, uid, follow_symlinks=False)  # noqa: PTH118  hot


def _become(uid: int, processes_max: int | None) -> list[str]:
    """Drops to the uid when the agent is root; limits processes per uid where no cgroup does."""
    limit = [] if processes_max is None else ["/usr/bin/prlimit", f"--nproc={processes_max}:{processes_max}", "--"]
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return limit
    return [
        *limit, "/usr/bin/setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs", "--bounding-set=-all",
        "--inh-caps=-all", "--",
    ]


def _system() -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108
    for device in sorted(Path("/dev").glob("nvidia*")):
        yield from ("--dev-bind", str(device), str(device))
    topology = Path("/sys/devices/system")
    if topology.exists():
        for parent in reversed(topology.parents[:-1]):
            yield from ("--perms", "0755", "--dir", str(parent))
        yield from ("--ro-bind", str(topology), str(topology))


def _etc() -> Iterator[str]:
    yield from ("--perms", "0755", "--dir", "/etc")
    for name in ETC:
        path = Path("/etc", name)
        if path.exists():
            yield from ("--ro-bind", str(path), str(path))


def _binds(folder: Path, read_only: Sequence[Path], writable: Sequence[Path]) -> Iterator[str]:
    """Parents first (bwrap makes missing ones 0700, which the script's uid could not pass), outer before inner."""
    wanted: dict[Path, str] = dict.fromkeys(read_only, "--ro-bind")
    for shown in [path for path in wanted if Path("/etc/ssl") in path.parents or Path("/usr") in path.parents]:
        del wanted[shown]
    wanted.update(dict.fromkeys(writable, "--bind"))
    if not any(folder == known or known in folder.parents for known in (*wanted, Path("/usr"))):
        wanted[folder] = "--bind"
    made: set[Path] = {Path("/"), Path("/usr"), Path("/etc"), Path("/tmp")}  # noqa: S108
    for path in sorted(wanted):
        if Path("/usr") in path.parents:
            continue
        inside = any(outer in path.parents for outer in wanted)
        for parent in reversed(path.parents):
            if parent not in made and not inside:
                made.add(parent)
                yield from ("--perms", "0755", "--dir", str(parent))
        yield from (wanted[path], str(path), str(path))


def uids_for(directory: Path) -> range:
    """The block of uids of this (node or serving) directory on this machine; as another user than root only its own uid.

    A block belongs to its directory for as long as that exists, so that two nodes on one machine never share a uid.
    """
    if os.getuid() != 0:
        return range(os.getuid(), os.getuid() + 1)
    REGISTRY.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = str(directory.resolve())
    with (REGISTRY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = {int(path.name): path.read_text() for path in REGISTRY.iterdir() if path.name.isdigit()}
        block = next((number for number, owner in taken.items() if owner == wanted), None)
        if block is None:
            block = next(number for number in range(len(taken) + 1) if number not in taken or not Path(taken[number]).exists())
            (REGISTRY / str(block)).write_text(wanted)
    first = UID_FIRST + block * UIDS_PER_DIRECTORY
    return range(first, first + UIDS_PER_DIRECTORY)


def scrubbed_environment(keep: Mapping[str, str]) -> dict[str, str]:
    """What a script or a build inherits: PATH, LANG, and of `keep` the certificate, pip, uv and proxy settings."""
    kept = {
        name: value for name, value in keep.items()
        if name not in NOT_KEPT and (name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES) or name.endswith(KEPT_SUFFIXES))
    }
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **kept}


def local_sources(environment: Mapping[str, str]) -> list[Path]:
    """Local folders and certificate files that pip and uv are told to use, so that a sandbox can show them."""
    words = [word for name in LOCAL_VARIABLES for word in re.split(r"[\s,]+", environment.get(name, ""))]
    return [path for path in dict.fromkeys(Path(word) for word in words if word.startswith("/")) if path.exists()]


def starter(path: Path, environment: Mapping[str, str], command: Sequence[str], uid: int) -> list[str]:
    """Writes a start file that exports `environment` and becomes `command`, readable by the uid only; returns what to run.

    Variables that a user chose must never be those of the exec of bwrap or setpriv: LD_PRELOAD would run as root before the fence is up.
    """
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if NAME.fullmatch(name) and name not in SHELL_OWN]
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(file, "w", errors="surrogateescape") as script:
        script.write("\n".join([*lines, f"exec {shlex.join(command)}"]) + "\n")
        if os.getuid() == 0:
            os.fchown(file, uid, uid)
    return [shell, str(path)]


def closed_parent(path: Path) -> Path | None:
    """The first folder on the way to `path` that other users may not enter; None when all are open."""
    return next((parent for parent in reversed(path.resolve().parents) if not parent.stat().st_mode & 0o001), None)
