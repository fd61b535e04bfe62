"""Jobs through the API: what is filled in, what is refused, what agents are given, what is told of it afterwards."""

from __future__ import annotations

import time

from core.runs import PlaceRun
from tests.adapters.http.live_server import LiveServer, problem
from tests.adapters.http.world import JOB, PROTOCOL, World, ok, submit

W = "/workspaces/ours"


def test_a_job_is_filled_in_and_answered_with_its_link(world: World) -> None:
    sent = {
        **JOB, "command": "echo ${{inputs.x}} $[[--y ${{inputs.y}}]]", "inputs": {"x": 1.5}, "display_name": "naïve ✓ {{7*7}} <b>",
        "environment": {"image": "library/python:latest", "packages": []}, "tags": {"a": "b"},
        "git": {"repository": "https://user:secret@host/repo.git", "commit": "a" * 40, "branch": "main", "dirty": True},
    }
    with world.client(world.ours.contributor) as client:
        made = client.post(f"{W}/jobs", json=sent)
        shown = ok(made, 201)
        assert shown["compute"] == "cpu"
        assert shown["display_name"] == "naïve ✓ {{7*7}} <b>"
        assert shown["warnings"] == ["image library/python:latest is replaced by the node's Python"]
        assert shown["link"] == made.headers["location"] == f"http://127.0.0.1/api/v1{W}/jobs/{shown['name']}"
        assert shown["git"]["repository"] == "https://host/repo.git"
        assert shown["submitted_by"].startswith("ours-contributor")
        listed = ok(client.get(f"{W}/jobs?tag=a=b&limit=1", headers={"Foldline-Position": made.headers["foldline-position"]}), 200)
        assert listed["items"][0] == {name: value for name, value in shown.items() if name != "link"}


def test_a_job_names_its_environment_by_version_or_takes_the_latest(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        for packages in (["six==1"], ["six==2"]):
            ok(client.post(f"{W}/environments", json={"name": "named", "spec": {"packages": packages}}), 201)
        for reference, packages in (
            ({"name": "named"}, ["six==2"]), ({"name": "named", "version": None}, ["six==2"]), ({"name": "named", "version": "1"},
                ["six==1"]),
        ):
            shown = ok(client.post(f"{W}/jobs", json={**JOB, "environment": reference}), 201)
            assert shown["environment"]["packages"] == packages
            assert shown["environment"]["name"] == "named"


def test_a_job_without_a_compute_in_a_workspace_without_one_is_told_what_to_run(world: World) -> None:
    with world.client(world.ours.owner) as client:
        ok(client.post("/workspaces", json={"name": "no-compute"}), 201)
        told = problem(client.post("/workspaces/no-compute/jobs", json=JOB))
        assert told["code"] == "no_compute"
        assert "foldline compute create" in told["detail"]
        assert "foldline workspace update --default-compute" in told["detail"]


def test_a_submission_is_durable_within_milliseconds(world: World) -> None:
    with world.client(world.ours.owner) as client:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            ok(client.post(f"{W}/jobs", json=JOB), 201)
            times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 0.25, f"median {sorted(times)[10] * 1000:.1f} ms"


def test_work_reaches_the_held_request_of_its_node_with_a_token_for_the_run(server: LiveServer, world: World) -> None:
    run = submit(server, world.ours.owner, "ours", environment_variables={"A": "1"}, inputs={"x": True}, outputs={"model": {}})
    server.command(world.ours.id, PlaceRun(run=run, node=world.ours.node, reason="test"))
    with world.client(world.ours.node_token) as agent:
        held = [{"run": name, "attempt": 1, "phase": "running"} for name in (world.ours.run, world.ours.child)]
        answer = ok(agent.post("/agent/work", json={"attempts": held, "wait_seconds": 5}, headers=PROTOCOL), 200)
        given = next(one for one in answer["assignments"] if one["run"] == run)
        assert (given["attempt"], given["workspace"], given["workspace_name"]) == (1, world.ours.id, "ours")
        assert (given["inputs"], given["outputs"], given["environment_variables"]) == ({"x": True}, {"model": "uri_folder"}, {"A": "1"})
        with world.client(given["run_token"]) as script:
            assert script.get("/me").json()["id"] == run
        with world.client(world.ours.owner) as owner:
            assert ok(owner.post(f"{W}/jobs/{run}/cancel"), 202)["status"] == "canceling"
        listed = [*held, {"run": run, "attempt": 1, "phase": "running"}, {"run": "not-ours", "attempt": 3, "phase": "running"}]
        answer = ok(agent.post("/agent/work", json={"attempts": listed, "wait_seconds": 5}, headers=PROTOCOL), 200)
        assert {"run": run, "attempt": 1, "cause": "canceled", "grace_seconds": 10.0} in answer["stops"]
        assert [one["run"] for one in answer["drop"]] == ["not-ours"]
        report = {"attempt": 1, "outcome": "canceled", "reason": "canceled", "message": "stopped"}
        for _ in range(2):
            ok(agent.post(f"/agent/runs/{run}/ended", json=report, headers=PROTOCOL), 204)
        ok(agent.post(f"/agent/runs/{world.ours.run}/tags?attempt=1", json={"tags": {"k": "v"}}, headers=PROTOCOL), 204)
        ok(agent.post(f"/agent/runs/{world.ours.run}/parameters?attempt=1", json={"parameters": {"epochs": "3"}}, headers=PROTOCOL), 204)


def test_the_story_of_a_run_tells_who_what_when_and_because_of_what(world: World) -> None:
    with world.client(world.ours.reader) as client:
        story = ok(client.get(f"{W}/jobs/{world.ours.ended}/story"), 200)["items"]
        types = [one["type"] for one in story]
        assert [name for name in types if name.startswith("run-")] == [
            "run-submitted", "run-placed", "run-started", "run-script-exited", "run-ended",
        ]
        by_type = {one["type"]: one for one in story}
        assert by_type["run-submitted"]["actor_name"].startswith("ours-owner")
        assert by_type["run-started"]["actor"] == f"node/{world.ours.node}"
        assert by_type["run-started"]["because"] == f"run-placed #{by_type['run-placed']['sequence']}"
        journal = ok(client.get(f"{W}/journal?type=run-ended&subject=run/{world.ours.ended}"), 200)["items"]
        assert [one["sequence"] for one in journal] == [by_type["run-ended"]["sequence"]]


def test_a_run_is_renamed_tagged_and_archived(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        run = f"{W}/jobs/{world.ours.ended}"
        changed = ok(client.patch(run, json={"display_name": "named", "tags_set": {"x": "1"}}), 200)
        assert (changed["display_name"], changed["tags"]) == ("named", {"x": "1"})
        assert ok(client.patch(run, json={"archived": True, "tags_removed": ["x"]}), 200)["archived"] is True
        assert world.ours.ended not in [one["name"] for one in ok(client.get(f"{W}/jobs?limit=1000"), 200)["items"]]
        assert world.ours.ended in [one["name"] for one in ok(client.get(f"{W}/jobs?limit=1000&archived=true"), 200)["items"]]
        assert ok(client.patch(run, json={"archived": False}), 200)["archived"] is False
        assert ok(client.patch(run, json={}), 200)["archived"] is False


def test_experiments_are_listed_archived_and_restored(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        found = {one["name"]: one for one in ok(client.get(f"{W}/experiments"), 200)["items"]}
        assert found["first"]["runs"] >= 3
        gone = client.post(f"{W}/experiments/first/archive")
        position = {"Foldline-Position": gone.headers["foldline-position"]}
        assert "first" not in [one["name"] for one in ok(client.get(f"{W}/experiments", headers=position), 200)["items"]]
        ok(client.post(f"{W}/experiments/first/restore"), 204)
        assert client.post(f"{W}/experiments/not-there/archive").status_code == 404


def test_a_compute_is_changed_and_not_deleted_while_runs_are_on_it(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        nodes = ok(client.get(f"{W}/computes/cpu/nodes"), 200)["items"]
        assert [(node["id"], node["status"]) for node in nodes] == [(world.ours.node, "ready")]
        assert nodes[0]["facts"]["cores"] == 2
        refused = client.delete(f"{W}/computes/cpu")
        assert refused.status_code == 409
        assert world.ours.run in problem(refused)["fields"]["active"]


def test_all_read_models_are_rebuilt_and_found_identical(world: World) -> None:
    with world.client(world.admin) as admin:
        report = ok(admin.post("/admin/read-models/rebuild"), 200)
        assert report["events"] > 0
        assert {one["model"] for one in report["models"]} >= {"run_history", "journal", "run_metrics", "endpoints"}
        assert [one for one in report["models"] if not one["identical"] or one["before"] != one["after"]] == []
