"""Snapshots, outputs and models: files by content, archives, names that cannot do harm."""

from __future__ import annotations

import hashlib
import io
import zipfile

import httpx2

from tests.adapters.http.live_server import LiveServer, problem, sha256
from tests.adapters.http.world import World, ok, upload

W = "/workspaces/ours"


def unzip(response: httpx2.Response) -> dict[str, bytes]:
    assert response.status_code == 200
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_a_folder_goes_up_and_comes_down_as_it_was(world: World) -> None:
    files = {"train.py": b"print(1)\n", "data/é ü.txt": "ü".encode(), "empty": b"", "deep/er/and/deeper": b"\x00" * 70_000}
    with world.client(world.ours.contributor) as client:
        _, digest = upload(client, W, files)
        assert upload(client, W, files)[1] == digest
        listed = ok(client.get(f"{W}/snapshots/{digest}"), 200)["files"]
        assert {entry["path"]: entry["sha256"] for entry in listed} == {path: sha256(content) for path, content in files.items()}
        archive = client.get(f"{W}/snapshots/{digest}/archive")
        assert unzip(archive) == files
        assert archive.headers["content-disposition"].startswith("attachment; ")
        assert archive.headers["x-content-type-options"] == "nosniff"
        again = client.get(f"{W}/snapshots/{digest}/archive")
        assert hashlib.sha256(again.content).digest() == hashlib.sha256(archive.content).digest()


def test_only_files_that_the_store_has_not_got_are_asked_for(world: World) -> None:
    have, lack = b"have this", b"lack this"
    with world.client(world.ours.contributor) as client:
        assert client.put(f"{W}/blobs/{sha256(have)}", content=have).status_code == 201
        assert client.put(f"{W}/blobs/{sha256(have)}", content=have).status_code == 200
        asked = {"digests": [sha256(have), sha256(lack), sha256(lack)]}
        assert ok(client.post(f"{W}/blobs/missing", json=asked), 200)["missing"] == [sha256(lack)]
        refused = client.put(f"{W}/blobs/{sha256(lack)}", content=b"something else")
        assert refused.status_code == 422
        assert ok(client.post(f"{W}/blobs/missing", json=asked), 200)["missing"] == [sha256(lack)]
        wrong = {"files": [{"path": "a", "sha256": sha256(have), "bytes": len(have) + 1}]}
        assert problem(client.post(f"{W}/snapshots", json=wrong))["code"] == "wrong_size"


def test_files_are_attachments_whatever_their_names_hold(world: World) -> None:
    run, html = world.ours.run, b"<script>alert(1)</script>"
    with world.client(world.ours.owner) as client:
        for name in ('a".html', "é\u202e.svg", "x;y=z.pdf", "a'b", "<img src=x>.xml"):
            ok(client.put(f"{W}/jobs/{run}/outputs/file", params={"path": f"odd/{name}"}, content=html), 201)
            answer = client.get(f"{W}/jobs/{run}/outputs/file", params={"path": f"odd/{name}"})
            assert answer.content == html
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
            shown = answer.headers["content-disposition"]
            assert shown.startswith('attachment; filename="')
            assert shown.count('"') == 2
            assert shown.isascii()
        names = [file["path"] for file in ok(client.get(f"{W}/jobs/{run}/outputs"), 200)["items"]]
        assert "odd/é\u202e.svg" in names


def test_twins_in_unicode_are_two_files(world: World) -> None:
    composed, decomposed = "\u00e9.txt", "e\u0301.txt"
    with world.client(world.ours.owner) as client:
        _, digest = upload(client, W, {composed: b"1", decomposed: b"2"})
        assert [file["path"] for file in ok(client.get(f"{W}/snapshots/{digest}"), 200)["files"]] == sorted([composed, decomposed])


def test_a_run_stores_a_file_of_its_own_and_of_its_child_and_of_no_other(world: World) -> None:
    ours = world.ours
    with world.client(ours.run_token) as run:
        for name in (ours.run, ours.child):
            ok(run.put(f"{W}/jobs/{name}/outputs/file?path=plots/curve.png", content=b"\x89PNG"), 201)
            assert run.get(f"{W}/jobs/{name}/outputs/file?path=plots/curve.png").content == b"\x89PNG"
        assert run.put(f"{W}/jobs/{ours.ended}/outputs/file?path=plots/curve.png", content=b"x").status_code == 403
        ok(run.post(f"{W}/jobs/{ours.run}/parameters", json={"parameters": {"lr": "0.1"}}), 204)
        refused = run.post(f"{W}/jobs/{ours.run}/parameters", json={"parameters": {"lr": "0.2"}})
        assert refused.status_code == 409
        assert problem(refused)["code"] != "stale_attempt"
        assert ok(run.get(f"{W}/jobs/{ours.run}"), 200)["parameters"]["lr"] == "0.1"


def test_outputs_are_listed_in_pages_and_downloaded_together(world: World) -> None:
    with world.client(world.ours.reader) as client:
        where = f"{W}/jobs/{world.ours.ended}/outputs"
        first = ok(client.get(f"{where}?limit=1"), 200)
        second = ok(client.get(f"{where}?limit=1&cursor={first['next']}"), 200)
        assert [file["path"] for file in first["items"] + second["items"]] == ["outputs/b.txt", "outputs/model/a.bin"]
        assert second["next"] is None
        assert unzip(client.get(f"{where}/archive")) == {"outputs/b.txt": b"b", "outputs/model/a.bin": b"weights"}


def test_a_model_comes_from_a_folder_of_a_run_and_keeps_the_folders_name(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        shown = ok(client.get(f"{W}/models/digits/versions/latest"), 200)
        assert (shown["version"], shown["files"], shown["bytes"], shown["source_run"]) == (1, 1, 7, world.ours.ended)
        files = ok(client.get(f"{W}/models/digits/versions/1/files"), 200)["items"]
        assert [file["path"] for file in files] == ["model/a.bin"]
        assert client.get(f"{W}/models/digits/versions/1/files/content?path=model/a.bin").content == b"weights"
        assert unzip(client.get(f"{W}/models/digits/versions/1/archive")) == {"model/a.bin": b"weights"}


def test_versions_follow_each_other_are_found_by_tag_and_are_not_deleted_while_deployed(world: World) -> None:
    with world.client(world.ours.contributor) as client:
        one = {"name": "other", "run": world.ours.ended, "path": "outputs/b.txt"}
        assert ok(client.post(f"{W}/models", json=one), 201)["version"] == 1
        _, local = upload(client, W, {"folder/weights": b"local"})
        assert ok(client.post(f"{W}/models", json={"name": "other", "manifest": local, "tags": {"stage": "new"}}), 201)["version"] == 2
        assert [row["version"] for row in ok(client.get(f"{W}/models/other/versions?tag=stage=new"), 200)["items"]] == [2]
        changed = ok(client.patch(f"{W}/models/other/versions/2", json={"tags_set": {"a": "b"}, "tags_removed": ["stage"]}), 200)
        assert changed["tags"] == {"a": "b"}
        assert [row["name"] for row in ok(client.get(f"{W}/models?tag=a=b"), 200)["items"]] == ["digits", "other"]
        assert client.delete(f"{W}/models/other/versions/2").status_code == 204
        assert client.get(f"{W}/models/other/versions/2").status_code in (200, 404)
        refused = client.delete(f"{W}/models/digits/versions/1")
        assert refused.status_code == 409
        told = problem(refused)
        assert told["code"] == "model_in_use"
        assert told["fields"]["deployments"] == ["score/blue"]
        assert client.get(f"{W}/models/not-there/versions").status_code == 404


def test_an_endpoint_is_shown_with_its_deployments_and_what_its_workers_say(server: LiveServer, world: World) -> None:
    with world.client(world.ours.reader) as client:
        shown = ok(client.get(f"{W}/online-endpoints/score"), 200)
        assert shown["scoring_uri"].endswith("/endpoints/ours/score/score")
        blue = shown["deployments"][0]
        assert (blue["name"], blue["provisioning_state"], blue["model_version"], blue["revision"]) == ("blue", "creating", 1, 1)
        logs = ok(client.get(f"{W}/online-endpoints/score/deployments/blue/logs?lines=1"), 200)
        assert logs == {"lines": ["init() done"]}
        assert client.get(f"{W}/online-endpoints/score/keys").status_code == 403
    with world.client(world.ours.contributor) as client:
        sent = {"model": "digits", "code": world.ours.snapshot, "scoring_script": "not/there.py", "environment": {"packages": []}}
        put = f"{W}/online-endpoints/score/deployments/green"
        assert problem(client.put(put, json=sent))["detail"].startswith("The code has no file")
        assert problem(client.put(put, json={**sent, "scoring_script": "sub/score.py", "model_version": 9}))["code"] == "not_found"
        made = client.put(put, json={**sent, "scoring_script": "sub/score.py"})
        assert made.status_code == 201
        assert client.put(put, json={**sent, "scoring_script": "sub/score.py", "instance_count": 2}).status_code == 200
        exists = client.put(put, json={**sent, "scoring_script": "main.py", "create_only": True})
        assert problem(exists)["code"] == "already_exists"
        ok(client.delete(put), 204)
        assert client.delete(put).status_code == 404
