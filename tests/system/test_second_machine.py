"""A second person and a second machine from the first day: TLS, a join token for once, a member with a role."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import QUICK, Installation, free_ports
from tools import server_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="foldline-tls-"))
    folder.chmod(0o755)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )
    yield certificate, key
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def secured(certificate: tuple[Path, Path]) -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="foldline-secured-"))
    folder.chmod(0o755)
    settings = {
        **free_ports(), "FOLDLINE_TLS_CERTIFICATE": str(certificate[0]), "FOLDLINE_TLS_KEY": str(certificate[1]),
    }
    trust = pytest.MonkeyPatch()
    for name in ("SSL_CERT_FILE", "FOLDLINE_CA_FILE"):
        trust.setenv(name, str(certificate[0]))
    server = server_process.start("postgres", folder / "data", environment={**QUICK, **settings})
    installation = Installation(folder / "data", "postgres", settings, server)
    try:
        installation.cli("workspace", "create", "lab")
        yield installation
    finally:
        installation.close()
        trust.undo()
        shutil.rmtree(folder, ignore_errors=True)


def test_listening_beyond_loopback_without_tls_is_refused_with_a_sentence(tmp_path: Path) -> None:
    argv = [str(server_process.BIN / "foldline-server"), "up", "--listen", "0.0.0.0", "--data", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "needs TLS" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_machine_joins_once_over_tls_and_runs_a_job(secured: Installation, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    secured.cli("compute", "create", "--name", "desk", "--provider", "joined", "--max-instances", "1")
    token = secured.ask("compute", "join-token", "desk")["token"]
    (tmp_path / "token").write_text(token)
    home = Path(tempfile.mkdtemp(prefix="foldline-joined-"))
    home.chmod(0o755)
    argv = [
        str(server_process.BIN / "foldline"), "node", "join", secured.server.url, "--token-file", str(tmp_path / "token"),
        "--ca-file", str(certificate[0]), "--directory", str(home / "node"),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOLDLINE_", "SSL_"))}
    agent = subprocess.Popen(argv, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        nodes = ("compute", "nodes", "--name", "desk")
        secured.wait("the machine to join", lambda: [node for node in secured.ask(*nodes) if node["status"] == "ready"])
        job = {"command": "echo from afar", "environment": {"image": "python"}, "compute": "azureml:desk"}
        (tmp_path / "job.yml").write_text(json.dumps(job))
        secured.cli("job", "create", "-f", str(tmp_path / "job.yml"), "--name", "afar", "--no-wait")
        secured.wait_status("afar", "completed", limit_seconds=90)
        assert secured.cli("job", "logs", "--name", "afar").stdout == "from afar\n"
        second = subprocess.run([*argv[:-1], str(home / "second")], env=clean, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode != 0
        assert len(secured.ask("compute", "nodes", "--name", "desk")) == 1
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def test_an_agent_refuses_a_server_whose_certificate_it_does_not_trust(secured: Installation, tmp_path: Path) -> None:
    secured.cli("compute", "create", "--name", "other", "--provider", "joined", "--max-instances", "1")
    (tmp_path / "token").write_text(secured.ask("compute", "join-token", "other")["token"])
    argv = [
        str(server_process.BIN / "foldline"), "node", "join", secured.server.url, "--token-file", str(tmp_path / "token"),
        "--directory", str(tmp_path / "node"),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOLDLINE_", "SSL_"))}
    done = subprocess.run(argv, env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "certificate" in (done.stdout + done.stderr).lower()
    assert secured.ask("compute", "nodes", "--name", "other") == []


def test_a_second_person_sees_what_her_role_allows_and_nothing_once_removed(secured: Installation) -> None:
    token = secured.ask("user", "create", "--name", "ada")["token"]
    ada = {**secured.environment, "FOLDLINE_TOKEN": token, "FOLDLINE_CONFIG": str(secured.data / "ada.json")}

    def as_ada(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [str(server_process.BIN / "foldline"), *arguments]
        return subprocess.run(argv, env=ada, capture_output=True, text=True, timeout=60, check=False)

    assert as_ada("compute", "list").returncode == 3
    secured.cli("member", "add", "ada", "--role", "reader")
    assert as_ada("compute", "list").returncode == 0
    assert as_ada("compute", "create", "--name", "mine").returncode == 4
    secured.cli("member", "remove", "ada")
    assert as_ada("compute", "list").returncode == 3
    secured.cli("user", "disable", "ada")
    assert as_ada("workspace", "list").returncode == 4
