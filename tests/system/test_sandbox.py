"""A hostile script on a real server: each attempt is refused, and the node stays healthy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

REFUSED = ("read ", "list ", "postgres", "ptrace", "signal", "setuid", "mknod", "write")
ATTEMPTS = """
import ctypes, json, os, pathlib, socket, sys
findings = {}

def attempt(name, action):
    try:
        findings[name] = repr(action())
    except BaseException as error:
        findings[name] = "refused: " + type(error).__name__

targets = json.loads(sys.argv[1])
for name, path in targets["files"].items():
    attempt("read " + name, lambda: open(path, "rb").read(64))
for name, path in targets["folders"].items():
    attempt("list " + name, lambda: os.listdir(path))
findings["sees of the data"] = sorted(os.path.join(at, name) for at, _, names in os.walk(targets["data"]) for name in names)
attempt("postgres", lambda: socket.socket(socket.AF_UNIX).connect(targets["postgres"]))
attempt("ptrace agent", lambda: ctypes.CDLL(None, use_errno=True).ptrace(16, targets["agent"], 0, 0) == 0 or 1 / 0)
attempt("signal agent", lambda: os.kill(targets["agent"], 9))
attempt("setuid root", lambda: os.setuid(0))
attempt("mknod", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))
attempt("write /etc", lambda: open("/etc/foldline", "w"))

def api(path):
    import urllib.request
    return urllib.request.urlopen(targets["url"] + path, timeout=5).status
attempt("api without token", lambda: api("/api/v1/workspaces"))

def forks():
    children = []
    try:
        for _ in range(5000):
            pid = os.fork()
            if pid == 0:
                import time
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, 9)
        for pid in children:
            os.waitpid(pid, 0)
    return len(children)
attempt("fork bomb", forks)

status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
findings["CapEff"] = status["CapEff"].strip()
findings["NoNewPrivs"] = status["NoNewPrivs"].strip()
findings["uid"] = os.getuid()
findings["environment"] = sorted(os.environ)
findings["secrets in environment"] = [k for k, v in os.environ.items() if v.startswith(("fln_", "flu_"))]
findings["other processes"] = [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (os.getpid(), os.getppid(), 1)]
for name, path in targets["files"].items():
    os.symlink(path, "outputs/link-" + name)
pathlib.Path("outputs/findings.json").write_text(json.dumps(findings))
print(json.dumps(findings))
"""


def findings_of(lab: Installation, job: Callable[..., Path]) -> dict[str, Any]:
    other = "other-run"
    victim = job("import time; open('outputs/secret.txt', 'w').write('mine'); time.sleep(60)")
    lab.cli("job", "create", "-f", str(victim), "--name", other, "--no-wait")
    lab.wait_status(other, "running")
    secret = next(lab.data.rglob(f"*{other}*/**/secret.txt"), None) or next(lab.data.rglob("secret.txt"))
    agent = lab.processes("foldline.node", str(lab.data))[0]
    config = next(word for word in agent.cmdline() if word.endswith(".json"))
    targets = {
        "files": {
            "token": str(lab.server.token_file), "vault-key": str(lab.data / "secrets" / "vault.key"), "agent-config": config,
            "other-run": str(secret), "shadow": "/etc/shadow", "server-log": str(lab.data / "server.log"),
        },
        "folders": {name: str(lab.data / name) for name in ("secrets", "pg", "gateway", "blobs", "serving")},
        "data": str(lab.data),
        "postgres": str(next((lab.data / "pg").rglob(".s.PGSQL.*"), lab.data / "pg" / ".s.PGSQL.5432")),
        "agent": agent.pid,
        "url": lab.server.url,
    }
    argument = json.dumps(targets).replace('"', '\\"')
    path = job(ATTEMPTS, command=f'python main.py "{argument}"')
    lab.cli("job", "create", "-f", str(path), "--name", "hostile", "--no-wait")
    lab.wait_status("hostile", "completed", limit_seconds=120)
    found: dict[str, Any] = json.loads(lab.cli("job", "logs", "--name", "hostile").stdout.splitlines()[-1])
    lab.cli("job", "cancel", "--name", other)
    return found


def test_a_hostile_script_reaches_nothing_of_the_server_and_the_node_stays_healthy(lab: Installation, job: Callable[..., Path]) -> None:
    found = findings_of(lab, job)
    refused = {name: said for name, said in found.items() if name.startswith(REFUSED)}
    assert len(refused) >= 14
    assert {name: said for name, said in refused.items() if not said.startswith("refused: ")} == {}
    strange = [path for path in found["sees of the data"] if "/hostile" not in path and "/cache/" not in path]
    assert strange == []
    assert found["api without token"] == "refused: HTTPError"
    assert found["fork bomb"].startswith("refused: ") or int(found["fork bomb"]) < 5000
    assert int(found["CapEff"], 16) == 0
    assert found["NoNewPrivs"] == "1"
    assert found["uid"] >= 200_000
    assert found["secrets in environment"] == []
    outputs = {file["path"] for file in lab.ask("job", "outputs", "--name", "hostile")}
    assert not [path for path in outputs if "link-" in path]
    nodes = lab.ask("compute", "nodes", "--name", "pool")
    assert all(node["status"] == "ready" for node in nodes)
    lab.cli("job", "create", "-f", str(job("print('still fine')")), "--name", "after", "--no-wait")
    lab.wait_status("after", "completed")
