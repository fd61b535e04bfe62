"""People come, go, are disabled and forgotten; machines join once; the first administrator's token lies where only one can read."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adapters.http.admin import ensure_admin
from adapters.http.repair import repair_workspaces
from core.computes import GoneCompute
from core.endpoints import NoEndpoint
from core.ids import SYSTEM, Stream, WorkspaceId
from core.workspaces import ReserveWorkspaceName
from tests.adapters.http.live_server import LiveServer, problem
from tests.adapters.http.world import FACTS, PROTOCOL, World, make_user, ok
from tests.postgres_fixtures import temporary_folder

W = "/workspaces/ours"


def test_a_disabled_user_is_nobody_at_once_and_somebody_again_when_enabled(world: World) -> None:
    user, token = make_user(world.server, "on-off")
    with world.client(world.admin) as admin, world.client(token) as client:
        assert client.get("/me").status_code == 200
        ok(admin.post(f"/users/{user}/disable"), 204)
        assert client.get("/me").status_code == 401
        ok(admin.post(f"/users/{user}/enable"), 204)
        assert client.get("/me").status_code == 200


def test_a_forgotten_user_is_nobody_and_has_no_name_any_more(world: World) -> None:
    user, token = make_user(world.server, "forgotten")
    with world.client(world.admin) as admin, world.client(token) as client, world.client(world.ours.owner) as owner:
        name = client.get("/me").json()["name"]
        ok(owner.put(f"{W}/members/{name}", json={"role": "contributor"}), 200)
        ok(client.post(f"{W}/environments", json={"name": "left-behind", "spec": {"packages": ["six"]}}), 201)
        ok(admin.delete(f"/users/{user}"), 204)
        assert client.get("/me").status_code == 401
        everything = "".join(owner.get(path).text for path in (f"{W}/journal?limit=1000", f"{W}/members", f"{W}/environments"))
        assert name not in everything
        assert user in everything
        assert problem(admin.delete("/users/nobody-at-all"))["code"] == "not_found"


def test_an_administrator_cannot_lock_everybody_out(world: World) -> None:
    with world.client(world.admin) as admin:
        me = ok(admin.get("/me"), 200)["id"]
        assert problem(admin.post("/users/me/disable"))["code"] == "conflict"
        assert problem(admin.delete(f"/users/{me}"))["code"] == "conflict"
        assert ok(admin.get("/me"), 200)["id"] == me


def test_a_revoked_token_and_an_expired_one_are_worthless_and_the_others_go_on(world: World) -> None:
    _, token = make_user(world.server, "tokens")
    with world.client(token) as client:
        made = ok(client.post("/users/me/tokens", json={"label": "ci", "expires_seconds": 3600}), 201)
        short = ok(client.post("/users/me/tokens", json={"expires_seconds": 1e-6}), 201)
        listed = ok(client.get("/users/me/tokens"), 200)["items"]
        assert {one["label"] for one in listed} >= {"ci", "first"}
        assert all("secret" not in one for one in listed)
        with world.client(short["secret"]) as expired:
            assert expired.get("/me").status_code == 401
        with world.client(made["secret"]) as other:
            assert other.get("/me").status_code == 200
            ok(client.delete(f"/users/me/tokens/{made['id']}"), 204)
            assert other.get("/me").status_code == 401
        assert client.delete(f"/users/me/tokens/{made['id']}").status_code == 404


def test_nobody_sees_or_makes_tokens_of_others(world: World) -> None:
    with world.client(world.ours.owner) as client, world.client(world.admin) as admin:
        there, missing = client.get(f"/users/{world.theirs.user}/tokens"), client.get("/users/u-0000000000000000/tokens")
        assert there.status_code == missing.status_code == 403
        assert there.content == missing.content
        assert admin.get(f"/users/{world.theirs.user}/tokens").status_code == 200


def test_a_lowered_role_and_a_removed_member_feel_it_at_once(world: World) -> None:
    user, token = make_user(world.server, "member")
    with world.client(world.ours.owner) as owner, world.client(token) as client, world.client(world.stranger) as stranger:
        never = stranger.get(W)
        ok(owner.put(f"{W}/members/{user}", json={"role": "contributor"}), 200)
        assert client.post(f"{W}/environments", json={"name": "mine", "spec": {}}).status_code == 201
        ok(owner.put(f"{W}/members/{user}", json={"role": "reader"}), 200)
        assert client.post(f"{W}/environments", json={"name": "mine", "spec": {}}).status_code == 403
        assert client.get(W).json()["role"] == "reader"
        ok(owner.delete(f"{W}/members/{user}"), 204)
        removed = client.get(W)
        assert removed.status_code == 404
        assert removed.content == never.content


def test_a_workspace_keeps_an_owner(world: World) -> None:
    with world.client(world.ours.owner) as owner:
        refused = owner.delete(f"{W}/members/me")
        assert refused.status_code == 409
        assert problem(owner.put(f"{W}/members/nobody-at-all", json={"role": "reader"}))["code"] == "not_found"


def test_a_workspace_is_deleted_only_when_nothing_runs_and_its_name_is_free_again(server: LiveServer, world: World) -> None:
    with world.client(world.ours.owner) as owner:
        refused = owner.delete(W)
        assert refused.status_code == 409
        active = problem(refused)["fields"]["active"]
        assert f"run {world.ours.run}" in active
        assert "endpoint score" in active
        made = ok(owner.post("/workspaces", json={"name": "short-lived"}), 201)
        assert ok(owner.patch("/workspaces/short-lived", json={"description": "d"}), 200)["description"] == "d"
        ok(owner.post("/workspaces/short-lived/computes", json={"name": "left"}), 201)
        stale = owner.delete("/workspaces/short-lived", headers={"If-Match": '"1"'})
        assert problem(stale)["code"] == "version_conflict"
        gone = owner.delete("/workspaces/short-lived")
        ok(gone, 204)
        assert owner.get("/workspaces/short-lived").status_code == owner.get(f"/workspaces/{made['id']}").status_code == 404
        compute = server.run(lambda: server.services.executor.state(WorkspaceId(made["id"]), Stream("compute/left")))
        assert isinstance(compute, GoneCompute)
        position = {"Foldline-Position": gone.headers["foldline-position"]}
        assert "short-lived" not in owner.get("/workspaces", headers=position).text
        again = ok(owner.post("/workspaces", json={"name": "short-lived"}), 201)
        assert again["id"] != made["id"]


def test_nothing_that_slips_into_a_workspace_while_it_is_deleted_is_left(server: LiveServer, world: World) -> None:
    for number in range(8):
        with world.client(world.ours.owner) as owner, world.client(world.ours.owner) as other:
            home = ok(owner.post("/workspaces", json={"name": f"closing-{number}"}), 201)["id"]

            def make(http: Any = other, path: str = f"/workspaces/closing-{number}/online-endpoints") -> int:
                return int(http.post(path, json={"name": "late"}).status_code)

            with ThreadPoolExecutor(1) as beside:
                making = beside.submit(make)
                deleted = owner.delete(f"/workspaces/closing-{number}").status_code
                assert making.result() in (201, 404)
            state = server.run(lambda home=home: server.services.executor.state(WorkspaceId(home), Stream("endpoint/late")))
            assert isinstance(state, NoEndpoint) == (deleted == 204)


def test_a_join_token_lets_one_machine_in_once(server: LiveServer, world: World) -> None:
    with world.client(world.ours.owner) as owner, world.client(world.ours.contributor) as contributor:
        ok(owner.post(f"{W}/computes", json={"name": "far", "provider": "joined"}), 201)
        assert contributor.post(f"{W}/computes/far/join-tokens", json={}).status_code == 403
        token = ok(owner.post(f"{W}/computes/far/join-tokens", json={}), 201)["token"]
        assert problem(owner.post(f"{W}/computes/cpu/join-tokens", json={}))["code"] == "conflict"
    with world.client(token) as machine:
        assert machine.get("/me").status_code == 403
        answer = machine.post("/nodes/join", json={"facts": FACTS, "slots": 2}, headers=PROTOCOL)
        joined, since = ok(answer, 200), {"Foldline-Position": answer.headers["foldline-position"]}
        assert machine.post("/nodes/join", json={"facts": FACTS, "slots": 2}, headers=PROTOCOL).status_code == 401
    with world.client(joined["token"]) as node, world.client(world.ours.owner) as owner:
        assert node.get("/me").json() == {"id": joined["node"], "kind": "node", "name": None, "admin": False, "server_version": "test"}
        timers = ok(node.post("/agent/hello", json={"facts": FACTS, "slots": 2}, headers=PROTOCOL), 200)
        assert (timers["node"], timers["compute"]) == (joined["node"], "far")
        listed = ok(owner.get(f"{W}/computes/far/nodes", headers=since), 200)["items"]
        assert [one["id"] for one in listed] == [joined["node"]]
        ok(owner.post(f"{W}/nodes/{joined['node']}/forget"), 204)
        assert node.get("/me").status_code == 401


def test_the_first_administrators_token_is_written_once_for_its_owner_only(server: LiveServer, world: World) -> None:
    folder = temporary_folder()
    path = server.run(lambda: ensure_admin(server.services, folder / "secrets"))
    assert path == folder / "secrets" / "admin-token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    token = path.read_text()
    assert server.run(lambda: ensure_admin(server.services, folder / "secrets")) == path
    assert path.read_text() == token
    with world.client(token.strip()) as client:
        assert client.get("/me").json()["admin"] is True
    _refuses_a_link(server, folder)


def _refuses_a_link(server: LiveServer, folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    other = folder / "other"
    other.mkdir(mode=0o700)
    (other / "admin-token").symlink_to(elsewhere)
    try:
        server.run(lambda: ensure_admin(server.services, other))
    except OSError:
        pass
    assert not elsewhere.exists()


def test_the_repair_finishes_a_workspace_that_was_half_made(server: LiveServer, world: World) -> None:
    server.command(SYSTEM, ReserveWorkspaceName(name="half-made", workspace="ws-00000000abcd"))
    touched = server.run(lambda: repair_workspaces(server.services))
    assert touched == 1
    reserved = server.run(lambda: server.services.executor.state(SYSTEM, Stream("name/half-made")))
    assert reserved.workspace is None, "made by nobody, so its name is free again"
    assert server.run(lambda: repair_workspaces(server.services)) == 0
