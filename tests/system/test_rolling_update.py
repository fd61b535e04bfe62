"""A rolling update from version 1 to version 2 of a model under load, on a whole server: no request fails."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.system.conftest import Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SCORE = """
import json, os, pathlib

def init():
    global version
    version = next(pathlib.Path(os.environ["AZUREML_MODEL_DIR"]).rglob("version.txt")).read_text()

def run(raw_data):
    return {"version": version, "echo": json.loads(raw_data)["data"]}
"""


def deployment(tmp_path: Path) -> Path:
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "score.py").write_text(SCORE)
    path = tmp_path / "deployment.yml"
    path.write_text(json.dumps({
        "name": "blue", "endpoint_name": "echo", "model": "azureml:echo:1", "environment": {"image": "python"},
        "code_configuration": {"code": "score", "scoring_script": "score.py"}, "instance_count": 2,
    }))
    return path


def register(lab: Installation, tmp_path: Path, version: str) -> None:
    (tmp_path / version / "echo").mkdir(parents=True)
    (tmp_path / version / "echo" / "version.txt").write_text(version)
    lab.cli("model", "create", "--name", "echo", "--path", str(tmp_path / version / "echo"))


async def load(uri: str, key: str, until: Callable[[], bool]) -> Counter[Any]:
    """Eight callers, one after the other each, until told to stop: how often which status and version was answered."""
    seen: Counter[Any] = Counter()

    async def caller(http: httpx2.AsyncClient, number: int) -> None:
        while not until():
            answer = await http.post(uri, json={"data": number}, headers={"Authorization": f"Bearer {key}"})
            seen[answer.status_code, answer.json().get("version") if answer.status_code == 200 else answer.text[:200]] += 1

    async with httpx2.AsyncClient(timeout=30) as http, asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(caller(http, number))
    return seen


async def test_an_update_under_load_fails_no_request(lab: Installation, tmp_path: Path) -> None:
    register(lab, tmp_path, "1")
    lab.cli("online-endpoint", "create", "--name", "echo")
    file = deployment(tmp_path)
    await asyncio.to_thread(lab.cli, "online-deployment", "create", "-f", str(file), "--all-traffic")
    register(lab, tmp_path, "2")
    uri = lab.ask("online-endpoint", "show", "--name", "echo")["scoring_uri"]
    key = lab.ask("online-endpoint", "get-credentials", "--name", "echo")["primary_key"]
    updated = asyncio.Event()

    async def update() -> None:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(lab.cli, "online-deployment", "update", "-f", str(file), "--set", "model=azureml:echo:2")
        await asyncio.sleep(1.5)
        updated.set()

    async with asyncio.TaskGroup() as group:
        loading = group.create_task(load(uri, key, updated.is_set))
        group.create_task(update())
    seen = loading.result()
    assert set(seen) == {(200, "1"), (200, "2")}
    assert seen[200, "1"] > 20
    assert seen[200, "2"] > 20
    assert lab.ask("model", "show", "--name", "echo", "--version", "1")["deployments"] == []
    assert lab.ask("model", "show", "--name", "echo", "--version", "2")["deployments"] == ["echo/blue"]


async def test_a_version_that_cannot_start_never_gets_traffic_and_the_one_before_goes_on(lab: Installation, tmp_path: Path) -> None:
    file = deployment(tmp_path)
    broken = "def init():\n    raise RuntimeError('no such luck')\n\ndef run(raw_data):\n    return 1\n"
    (tmp_path / "score" / "score.py").write_text(broken)
    done = lab.cli("online-deployment", "update", "-f", str(file), "--set", "model=azureml:echo:2", check=False)
    assert done.returncode == 1
    assert "no such luck" in done.stdout + done.stderr
    uri = lab.ask("online-endpoint", "show", "--name", "echo")["scoring_uri"]
    key = lab.ask("online-endpoint", "get-credentials", "--name", "echo")["primary_key"]
    async with httpx2.AsyncClient() as http:
        answer = await http.post(uri, json={"data": 7}, headers={"Authorization": f"Bearer {key}"})
    assert answer.json() == {"version": "2", "echo": 7}
