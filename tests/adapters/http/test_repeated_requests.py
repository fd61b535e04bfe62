"""The same request twice is done once; nobody gets another tenant's answer; what was written is read."""

from __future__ import annotations

import threading
from typing import Any

import httpx2

from core.ids import Position, uuid7
from tests.adapters.http.live_server import LiveServer, problem
from tests.adapters.http.world import JOB, World, ok

W = "/workspaces/ours"


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


def test_the_same_job_with_the_same_key_is_one_run(server: LiveServer, world: World) -> None:
    with world.client(world.ours.owner) as client:
        first = client.post(f"{W}/jobs", json=JOB, headers=key("submit-1"))
        before = server.events()
        again = client.post(f"{W}/jobs", json=JOB, headers=key("submit-1"))
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["foldline-position"] == first.headers["foldline-position"]
        assert server.events() == before


def test_the_same_job_at_the_same_time_is_one_run(server: LiveServer, world: World) -> None:
    names: list[str] = []

    def send() -> None:
        with world.client(world.ours.owner) as client:
            names.append(ok(client.post(f"{W}/jobs", json=JOB, headers=key("submit-at-once")), 201)["name"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8
    assert len(set(names)) == 1


def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    with world.client(world.ours.owner) as client:
        ok(client.post(f"{W}/jobs", json=JOB, headers=key("submit-2")), 201)
        refused = client.post(f"{W}/jobs", json={**JOB, "command": "echo other"}, headers=key("submit-2"))
        assert refused.status_code == 409
        assert problem(refused)["code"] == "idempotency_key_reused"


def test_another_tenants_key_is_a_key_of_its_own(world: World) -> None:
    ours, theirs, colleague = (world.client(token) for token in (world.ours.owner, world.theirs.owner, world.ours.contributor))
    with ours, theirs, colleague:
        made = ok(ours.post(f"{W}/jobs", json=JOB, headers=key("shared")), 201)["name"]
        other = ok(theirs.post("/workspaces/theirs/jobs", json=JOB, headers=key("shared")), 201)["name"]
        third = ok(colleague.post(f"{W}/jobs", json=JOB, headers=key("shared")), 201)["name"]
        assert len({made, other, third}) == 3


def test_a_key_that_is_too_old_by_its_own_time_is_refused(world: World) -> None:
    with world.client(world.ours.owner) as client:
        refused = client.post(f"{W}/jobs", json=JOB, headers=key(uuid7(1_600_000_000_000, b"0123456789")))
        assert refused.status_code == 409
        assert problem(refused)["code"] == "key_expired"


def test_what_is_shown_once_is_shown_again_to_the_same_request_only(world: World) -> None:
    with world.client(world.ours.owner) as client:
        first = ok(client.post("/users/me/tokens", json={"label": "a"}, headers=key("token-1")), 201)
        again = ok(client.post("/users/me/tokens", json={"label": "a"}, headers=key("token-1")), 201)
        other = ok(client.post("/users/me/tokens", json={"label": "a"}, headers=key("token-2")), 201)
        assert first["secret"] == again["secret"] != other["secret"]
        with world.client(first["secret"]) as renewed:
            assert renewed.get("/me").json()["id"] == world.ours.user


def test_a_workspace_and_a_user_made_twice_are_made_once(server: LiveServer, world: World) -> None:
    with world.client(world.admin) as admin:
        sent = {"name": "twice"}
        first, again = (ok(admin.post("/users", json=sent, headers=key("user-twice")), 201) for _ in range(2))
        assert (first["id"], first["token"]) == (again["id"], again["token"])
        assert problem(admin.post("/users", json=sent))["code"] == "already_exists"
        one, two = (ok(admin.post("/workspaces", json=sent, headers=key("workspace-twice")), 201) for _ in range(2))
        assert one["id"] == two["id"]
        before = server.events()
        assert problem(admin.post("/workspaces", json=sent))["code"] == "already_exists"
        assert server.events() == before


def test_endpoint_keys_survive_a_repeated_creation(world: World) -> None:
    with world.client(world.ours.owner) as client:
        sent: dict[str, Any] = {"name": "keyed"}
        ok(client.post(f"{W}/online-endpoints", json=sent, headers=key("endpoint-1")), 201)
        before = ok(client.get(f"{W}/online-endpoints/keyed/keys"), 200)
        ok(client.post(f"{W}/online-endpoints", json=sent, headers=key("endpoint-1")), 201)
        assert problem(client.post(f"{W}/online-endpoints", json=sent))["code"] == "already_exists"
        assert ok(client.get(f"{W}/online-endpoints/keyed/keys"), 200) == before
        assert len(before["primary_key"]) >= 32
        assert before["primary_key"] != before["secondary_key"]
        after = ok(client.post(f"{W}/online-endpoints/keyed/keys/regenerate", json={"key_type": "primary"}), 200)
        assert after["primary_key"] != before["primary_key"]
        assert after["secondary_key"] == before["secondary_key"]
        ok(client.delete(f"{W}/online-endpoints/keyed"), 204)


def test_a_change_of_keys_that_is_repeated_late_harms_no_newer_key(world: World) -> None:
    with world.client(world.ours.owner) as client:
        change, sent = f"{W}/online-endpoints/rekeyed/keys/regenerate", {"key_type": "primary"}
        ok(client.post(f"{W}/online-endpoints", json={"name": "rekeyed"}), 201)
        first = ok(client.post(change, json=sent, headers=key("rekey-1")), 200)
        assert ok(client.post(change, json=sent, headers=key("rekey-1")), 200) == first
        second = ok(client.post(change, json=sent, headers=key("rekey-2")), 200)
        assert second["primary_key"] not in ("", first["primary_key"])
        assert ok(client.post(change, json=sent, headers=key("rekey-1")), 200) == second
        assert ok(client.get(f"{W}/online-endpoints/rekeyed/keys"), 200) == second
        ok(client.delete(f"{W}/online-endpoints/rekeyed"), 204)


def test_a_deletion_that_is_repeated_late_takes_no_key_from_a_newer_endpoint(world: World) -> None:
    with world.client(world.ours.owner) as client:
        for _ in range(2):
            ok(client.post(f"{W}/online-endpoints", json={"name": "renewed"}), 201)
            ok(client.delete(f"{W}/online-endpoints/renewed", headers=key("delete-renewed")), 204)
        assert all(ok(client.get(f"{W}/online-endpoints/renewed/keys"), 200).values())
        ok(client.delete(f"{W}/online-endpoints/renewed"), 204)


def test_a_read_that_carries_the_position_of_a_write_sees_it(world: World) -> None:
    with world.client(world.ours.owner) as client, world.client(world.ours.reader) as reader:
        for number in range(20):
            made = client.post(f"{W}/jobs", json={**JOB, "display_name": f"n {number}"})
            position = {"Foldline-Position": made.headers["foldline-position"]}
            assert reader.get(f"{W}/jobs/{made.json()['name']}", headers=position).status_code == 200
            assert ok(reader.get(f"{W}/jobs?limit=1", headers=position), 200)["items"][0]["name"] == made.json()["name"]
            assert ok(reader.get(f"{W}/jobs/{made.json()['name']}/story", headers=position), 200)["items"]


def test_a_position_that_is_not_reached_in_time_is_503_behind(server: LiveServer, world: World) -> None:
    far = Position(server.services.log.id, 0, 10**9).token()
    with world.client(world.ours.reader) as client:
        refused = client.get(f"{W}/jobs", headers={"Foldline-Position": far})
        assert refused.status_code == 503
        assert problem(refused)["code"] == "behind"
        assert int(refused.headers["retry-after"]) >= 1


def test_a_version_that_was_read_guards_the_change(world: World) -> None:
    with world.client(world.ours.owner) as client:
        seen = client.get(f"{W}/computes/cpu")
        ok(client.patch(f"{W}/computes/cpu", json={"max_instances": 3}, headers={"If-Match": seen.headers["etag"]}), 200)
        refused = client.patch(f"{W}/computes/cpu", json={"max_instances": 4}, headers={"If-Match": seen.headers["etag"]})
        assert refused.status_code == 409
        told = problem(refused)
        assert told["code"] == "version_conflict"
        assert told["fields"]["actual"] > told["fields"]["expected"]
        ok(client.patch(f"{W}/computes/cpu", json={"max_instances": 2}), 200)


def test_pages_have_each_row_once_and_their_cursors_fit_no_other_list(world: World) -> None:
    with world.client(world.ours.owner) as client:
        for _ in range(5):
            ok(client.post(f"{W}/jobs", json={**JOB, "experiment_name": "paged"}), 201)
        names: list[str] = []
        cursors: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = _page(client, f"{W}/jobs?experiment=paged&limit=2{cursor and '&cursor=' + cursor}")
            names += [run["name"] for run in page["items"]]
            cursor = page.get("next")
            cursors += [cursor] if cursor else []
        assert len(names) == len(set(names)) == 5
        given = cursors[0]
        edited = given[:-2] + ("AA" if given[-2:] != "AA" else "BB")
        for wrong in (f"{W}/jobs?limit=2&cursor={given}", f"{W}/models?cursor={given}", f"{W}/jobs?experiment=paged&cursor={edited}"):
            assert problem(client.get(wrong))["code"] == "bad_cursor"
    with world.client(world.theirs.owner) as other:
        assert problem(other.get(f"/workspaces/theirs/jobs?experiment=paged&limit=2&cursor={given}"))["code"] == "bad_cursor"


def _page(client: httpx2.Client, path: str) -> dict[str, Any]:
    return ok(client.get(path), 200)
