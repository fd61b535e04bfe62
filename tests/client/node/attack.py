"""Runs inside the sandbox and tries to get out; prints what it managed as one JSON object."""

# Each line is an attempt, as a script would write it:
# ruff: noqa: SIM115, PTH110, PTH115, PTH118, PTH207, PTH208

import ctypes
import glob
import json
import os
import signal
import socket
import sys

found: dict[str, object] = {}
secrets = json.loads(sys.argv[1])


def attempt(name: str, action: object) -> None:
    try:
        found[name] = repr(action())[:200]  # type: ignore[operator]
    except BaseException as problem:
        found[name] = f"refused: {type(problem).__name__}: {problem}"[:200]


libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return 0


status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
found["capabilities"] = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
found["no_new_privileges"] = status["NoNewPrivs"].strip()
found["uid"], found["gid"], found["groups"] = os.getuid(), os.getgid(), os.getgroups()
found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
names = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
found["open_files"] = sorted(os.readlink(f"/proc/self/fd/{name}") for name in names)
for name, path in secrets["files"].items():
    attempt(f"read {name}", lambda path=path: open(path, "rb").read(100))
for name, path in secrets["folders"].items():
    attempt(f"list {name}", lambda path=path: os.listdir(path))
attempt("signal agent", lambda: os.kill(secrets["agent"], signal.SIGKILL))
attempt("ptrace agent", lambda: call("ptrace", 16, secrets["agent"], 0, 0))
attempt("memory of the first process", lambda: open("/proc/1/mem", "rb").read(1))
attempt("environment of the first process", lambda: open("/proc/1/environ", "rb").read())
attempt("root of the first process", lambda: os.listdir("/proc/1/root"))
attempt("kill parent", lambda: os.kill(1, signal.SIGKILL))
attempt("mknod", lambda: os.mknod("device", 0o60666, os.makedev(254, 0)))
attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("setuid", lambda: os.setuid(0))
attempt("chroot", lambda: os.chroot("/"))
attempt("write /usr", lambda: open("/usr/bin/foldline-was-here", "w"))
attempt("write the package", lambda: open(os.path.join(os.environ["PYTHONPATH"].split(":")[0], "foldline", "script.py"), "a"))
attempt("write an installed file", lambda: open(glob.glob(os.environ["VIRTUAL_ENV"] + "/lib/*/site-packages/pip/__init__.py")[0], "a"))
attempt("write kernel settings", lambda: open("/proc/sys/kernel/core_pattern", "w").write("x"))
attempt("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\0" + secrets["abstract"]))
attempt("bind below 1024", lambda: socket.socket().bind(("127.0.0.1", 81)))
attempt("raise priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
attempt("reboot", lambda: call("reboot", 0x1234567))
attempt("truncate the log", lambda: os.ftruncate(1, 0))
found["stderr by name"] = os.system("echo through /dev/stderr > /dev/stderr") == 0
found["own files"] = {name: os.access(name, os.W_OK) for name in ("outputs", "logs", "/tmp", "/dev/shm", os.environ["HOME"])}
print(json.dumps(found))
