"""Two tenants with one of everything, made through the API."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import httpx2

from core.nodes import RequestNode
from core.runs import PlaceRun
from foldline.wire.files import FileEntry, Manifest
from tests.adapters.http.live_server import LiveServer, sha256

FACTS = {
    "hostname": "h", "cores": 2, "memory_bytes": 1 << 30, "gpus": 0, "python": "3.11.2", "platform": "linux", "agent": "test",
    "sandbox": "none",
}
PROTOCOL = {"Foldline-Protocol": "1"}
SCRIPT = b"print('hello')\n"
COUNTER = itertools.count(1)


@dataclass(slots=True)
class Tenant:
    """A workspace with people of each role, a run that is placed on a node, a finished one, a model and an endpoint."""

    name: str
    id: str
    owner: str
    contributor: str
    reader: str
    node: str
    node_token: str
    run: str
    child: str
    run_token: str
    ended: str
    snapshot: str
    blob: str
    user: str
    """The owner's id."""


@dataclass(slots=True)
class World:
    server: LiveServer
    admin: str
    ours: Tenant
    theirs: Tenant
    stranger: str
    """A user who is a member of nothing."""

    def client(self, token: str | None) -> httpx2.Client:
        return self.server.client(token)


def make_world(server: LiveServer) -> World:
    admin = server.made.admin_token
    stranger = make_user(server, "stranger")[1]
    return World(server, admin, make_tenant(server, "ours"), make_tenant(server, "theirs"), stranger)


def make_user(server: LiveServer, name: str) -> tuple[str, str]:
    """(id, token)."""
    with server.client(server.made.admin_token) as admin:
        made = ok(admin.post("/users", json={"name": f"{name}-{next(COUNTER)}"}), 201)
    return str(made["id"]), str(made["token"])


def make_tenant(server: LiveServer, name: str) -> Tenant:
    user, owner = make_user(server, f"{name}-owner")
    _, contributor = make_user(server, f"{name}-contributor")
    _, reader = make_user(server, f"{name}-reader")
    with server.client(owner) as client:
        home = ok(client.post("/workspaces", json={"name": name}), 201)
        for token, role in ((contributor, "contributor"), (reader, "reader")):
            ok(client.put(f"/workspaces/{name}/members/{token.partition(':')[0].removeprefix('flu_')}", json={"role": role}), 200)
        where = f"/workspaces/{name}"
        ok(client.post(f"{where}/computes", json={"name": "cpu", "max_instances": 2, "slots_per_node": 8}), 201)
        blob, snapshot = upload(client, where, {"main.py": SCRIPT + f"# {name}\n".encode(), "sub/score.py": b"def init(): ...\n"})
    node = f"cpu-{name}"
    token = start_node(server, home["id"], node)
    runs = [submit(server, owner, name), "", submit(server, owner, name)]
    runs[1] = submit(server, owner, name, parent=runs[0])
    for run in runs:
        server.command(home["id"], PlaceRun(run=run, node=node, reason="test"))
    tenant = Tenant(
        name=name, id=home["id"], owner=owner, contributor=contributor, reader=reader, node=node, node_token=token, run=runs[0],
            child=runs[1],
        run_token=server.run_token(home["id"], runs[0]), ended=runs[2], snapshot=snapshot, blob=blob, user=user,
    )
    finish(server, tenant)
    return tenant


def start_node(server: LiveServer, workspace: str, node: str) -> str:
    server.command(workspace, RequestNode(node=node, compute="cpu", provider="local", slots=8, reason="test"))
    token = server.node_token(workspace, node)
    with server.client(token) as agent:
        ok(agent.post("/agent/hello", json={"facts": FACTS, "slots": 8}, headers=PROTOCOL), 200)
    return token


def submit(server: LiveServer, token: str, workspace: str, **more: Any) -> str:
    with server.client(token) as client:
        return str(ok(client.post(f"/workspaces/{workspace}/jobs", json={**JOB, **more}), 201)["name"])


def finish(server: LiveServer, tenant: Tenant) -> None:
    """The run `ended` starts, logs, exits and ends; then its model is registered and deployed."""
    digest = "0" * 64
    run = f"/agent/runs/{tenant.ended}"
    with server.client(tenant.node_token) as agent:
        agent.headers.update(PROTOCOL)
        ok(agent.post(f"{run}/started", json={
            "attempt": 1, "environment_key": digest, "environment_cached": True, "sandbox": "none", "preparing_seconds": 0.1,
        }), 204)
        ok(agent.post(f"{run}/log?attempt=1&source=1/std_log&sequence=1&name=user_logs/std_log.txt&offset=0", content=b"hello\n"), 204)
        ok(agent.post(f"{run}/exited", json={"attempt": 1, "exit_code": 0}), 204)
        _, outputs = upload(agent, f"/workspaces/{tenant.id}", {"outputs/model/a.bin": b"weights", "outputs/b.txt": b"b"})
        ok(agent.post(f"{run}/ended", json={
            "attempt": 1, "outcome": "completed", "reason": "succeeded", "message": "", "exit_code": 0, "outputs": outputs,
            "output_files": 2, "output_bytes": 8,
        }), 204)
    with server.client(tenant.owner) as client:
        where = f"/workspaces/{tenant.name}"
        ok(client.post(f"{where}/models", json={"name": "digits", "run": tenant.ended, "path": "outputs/model", "tags": {"a": "b"}}), 201)
        ok(client.post(f"{where}/online-endpoints", json={"name": "score"}), 201)
        ok(client.post(f"{where}/environments", json={"name": "env", "spec": {"packages": ["numpy"]}}), 201)
        ok(client.put(f"{where}/online-endpoints/score/deployments/blue", json={
            "model": "digits", "code": tenant.snapshot, "scoring_script": "sub/score.py", "environment": {"packages": []},
        }), 201)


def upload(client: httpx2.Client, where: str, files: dict[str, bytes]) -> tuple[str, str]:
    """(the first file's digest, the folder's digest)."""
    entries = []
    for path, content in files.items():
        digest = sha256(content)
        assert client.put(f"{where}/blobs/{digest}", content=content).status_code in (200, 201)
        entries.append(FileEntry(path=path, sha256=digest, bytes=len(content)))
    manifest = Manifest(files=entries)
    stored = ok(client.post(f"{where}/snapshots", content=manifest.model_dump_json(), headers={"Content-Type": "application/json"}), 201)
    assert stored["digest"] == sha256(manifest.canonical())
    return entries[0].sha256, str(stored["digest"])


def ok(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
    return dict(response.json()) if response.content else {}


JOB = {"experiment_name": "first", "command": "echo hello", "environment": {"packages": []}}
