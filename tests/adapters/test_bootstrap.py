"""What the composition root says and chooses before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from adapters.bootstrap import agent_url, tell_of_missing
from adapters.settings import read_settings
from foldline.node.sandbox import Sandbox


@pytest.mark.parametrize("terminal", [True, False])
def test_a_missing_sandbox_is_said_in_the_log_and_on_a_terminal(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with capture_logs() as said:
        tell_of_missing(Sandbox.probe())
    assert [(one["event"], one["log_level"]) for one in said] == [("sandbox.missing", "warning")]
    assert "bubblewrap is not installed" in said[0]["reason"]
    printed = capsys.readouterr().out
    assert printed == (said[0]["sentence"] + "\n" if terminal else "")
    assert "WITHOUT A SANDBOX" in said[0]["sentence"]


@pytest.mark.parametrize("kind", ["root", "user"])
def test_nothing_is_said_where_scripts_are_fenced(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as said:
        tell_of_missing(Sandbox(kind))  # type: ignore[arg-type]  # one of its kinds
    assert (said, capsys.readouterr().out) == ([], "")


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, "http://127.0.0.1:8321"),
    ({"FOLDLINE_HOST": "::1"}, "http://[::1]:8321"),
    ({"FOLDLINE_PUBLIC_URL": "https://ml.example.org"}, "http://127.0.0.1:8321"),
    ({"FOLDLINE_HOST": "0.0.0.0", "TLS": "yes"}, "https://127.0.0.1:8321"),
    ({"FOLDLINE_HOST": "0.0.0.0", "TLS": "yes", "FOLDLINE_PUBLIC_URL": "https://localhost:8321"}, "https://localhost:8321"),
])
def test_local_agents_use_loopback_or_the_name_in_the_certificate(variables: dict[str, str], expected: str) -> None:
    given = dict(variables)
    if given.pop("TLS", ""):
        given |= {"FOLDLINE_TLS_CERTIFICATE": "/c", "FOLDLINE_TLS_KEY": "/k"}
    assert agent_url(read_settings(given)) == expected
