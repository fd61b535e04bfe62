"""Nobody reaches another workspace's things: not by its name, not by ids inside one's own workspace."""

from __future__ import annotations

import re

import httpx2

from adapters.http import access
from tests.adapters.http.live_server import LiveServer, problem
from tests.adapters.http.world import PROTOCOL, World, ok, upload


def ids(world: World) -> dict[str, str]:
    theirs = world.theirs
    return {
        "run": theirs.run, "sha256": theirs.blob, "digest": theirs.snapshot, "node": theirs.node, "user": theirs.user,
        "token": "t-1234567890",
        "compute": "cpu-theirs", "environment": "env-theirs", "experiment": "experiment-theirs", "model": "model-theirs", "version": "1",
        "endpoint": "endpoint-theirs", "deployment": "blue",
    }


def paths(server: LiveServer, workspace: str, values: dict[str, str]) -> list[tuple[str, str]]:
    """Every route of a workspace that reads, filled in."""
    return [
        (route.path, re.sub(r"{(\w+)}", lambda match: {"workspace": workspace, **values}[match[1]], route.path))
        for route, _ in server.made.app.router.routes if route.method == "GET" and route.path.startswith(access.W)
    ]


def test_every_read_of_another_workspace_is_answered_as_if_it_did_not_exist(server: LiveServer, world: World) -> None:
    values = {**ids(world), "model": "digits", "endpoint": "score", "compute": "cpu", "environment": "env", "experiment": "first"}
    for token in (world.ours.owner, world.stranger, world.admin, world.ours.node_token, world.ours.run_token):
        with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}", **PROTOCOL}) as client:
            for named in (world.theirs.name, world.theirs.id):
                pairs = zip(paths(server, named, values), paths(server, "ws-000000000000", values), strict=True)
                for (template, there), (_, missing) in pairs:
                    answer, nowhere = client.get(there), client.get(missing)
                    assert answer.status_code == 404, f"{template}: {answer.status_code}"
                    assert answer.content == nowhere.content, template
                    assert set(answer.headers) == set(nowhere.headers), template


def test_every_read_with_another_workspaces_ids_inside_ours_finds_nothing_of_theirs(server: LiveServer, world: World) -> None:
    absent = {name: "0" * 64 if name in ("sha256", "digest") else "1" if name == "version" else "not-there" for name in ids(world)}
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {world.ours.owner}"}) as client:
        for (template, there), (_, missing) in zip(
            paths(server, "ours", ids(world)), paths(server, "ours", absent), strict=True,
        ):
            if there == missing or template.endswith(("/events", "/journal")):
                continue
            answer, nowhere = client.get(there), client.get(missing)
            assert answer.status_code in (403, 404, 422), f"{template}: {answer.status_code} {answer.text}"
            assert answer.status_code == nowhere.status_code, template
            for value in ids(world).values():
                assert value not in nowhere.text or value in ("1", "blue"), template


def test_their_files_cannot_be_named_in_ours(server: LiveServer, world: World) -> None:
    with world.client(world.ours.owner) as client:
        where = f"/workspaces/{world.ours.name}"
        secret = b"only theirs " + world.theirs.id.encode()
        with world.client(world.theirs.owner) as other:
            blob, snapshot = upload(other, f"/workspaces/{world.theirs.name}", {"secret.txt": secret})
        assert client.get(f"{where}/snapshots/{snapshot}").status_code == 404
        assert client.get(f"{where}/snapshots/{snapshot}/archive").status_code == 404
        refused = client.post(f"{where}/snapshots", json={"files": [{"path": "a", "sha256": blob, "bytes": len(secret)}]})
        assert problem(refused)["code"] == "missing_blobs"
        assert problem(client.post(f"{where}/models", json={"name": "stolen", "manifest": snapshot}))["code"] == "not_found"
        assert problem(client.post(f"{where}/models", json={"name": "stolen", "run": world.theirs.ended}))["code"] == "not_found"
        missing = ok(client.post(f"{where}/blobs/missing", json={"digests": [blob]}), 200)
        assert missing["missing"] == [blob]


def test_a_run_token_reaches_its_run_and_its_children_only(server: LiveServer, world: World) -> None:
    where = f"/workspaces/{world.ours.name}/jobs"
    with world.client(world.ours.run_token) as run:
        assert run.get(f"{where}/{world.ours.run}").status_code == 200
        assert run.get(f"{where}/{world.ours.child}").status_code == 200
        foreign, absent = run.get(f"{where}/{world.ours.ended}"), run.get(f"{where}/not-there")
        assert foreign.status_code == absent.status_code == 403
        assert foreign.content == absent.content
        assert run.get(where).status_code == 403
        assert run.post("/users", json={"name": "x"}).status_code == 403
        assert run.get("/me").json()["kind"] == "run"
    with world.client(server.run_token(world.ours.id, world.ours.child)) as child:
        assert child.get(f"{where}/{world.ours.run}").status_code == 403


def test_a_run_token_ends_with_its_attempt(server: LiveServer, world: World) -> None:
    for token in (server.run_token(world.ours.id, world.ours.ended), server.run_token(world.ours.id, world.ours.run, 2)):
        with world.client(token) as run:
            answer = run.get("/me")
            assert answer.status_code == 409
            assert problem(answer)["code"] == "stale_attempt"
    with world.client(world.ours.run_token[:-1] + ("0" if world.ours.run_token[-1] != "0" else "1")) as forged:
        assert forged.get("/me").status_code == 401


def test_the_workspace_system_is_behind_no_path(server: LiveServer, world: World) -> None:
    with world.client(world.admin) as admin:
        for named in ("system", "SYSTEM", "ws-system"):
            assert admin.get(f"/workspaces/{named}").status_code == 404
            assert admin.get(f"/workspaces/{named}/journal").status_code == 404
        for name in ("system", "me", "ws-0123456789ab"):
            assert admin.post("/workspaces", json={"name": name}).status_code == 422
