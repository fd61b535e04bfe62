"""A scripted server, a configuration of its own, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from foldline.cli.app import run
from tests.client import scripted_server
from tests.client.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server.running() as scripted:
        yield scripted


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `foldline ...` against the scripted server, as `me` in the workspace `lab`."""
    monkeypatch.setenv("FOLDLINE_URL", server.url)
    monkeypatch.setenv("FOLDLINE_TOKEN", "flu_me:1:secret")
    monkeypatch.setenv("FOLDLINE_WORKSPACE", "lab")
    monkeypatch.setenv("FOLDLINE_CONFIG", str(tmp_path / "config" / "config.json"))
    monkeypatch.setenv("FOLDLINE_PATIENCE_SECONDS", "0.3")

    def call(*tokens: str) -> Done:
        capfd.readouterr()
        code = run(tokens)
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call
