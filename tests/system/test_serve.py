"""`foldline-server serve` as docker-compose.yml runs it: a real broker with SASL, a Postgres of somebody else's, TLS, passwords in files.

Only addresses, paths and timers differ from the composed server; the certificate is made by the command in the file itself.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest
import yaml

from adapters.postgres.cluster import Cluster, prepare, run_as
from tests.system.conftest import QUICK, Installation, free_ports
from tools import server_process
from tools.kafka import broker

pytestmark = [pytest.mark.system, pytest.mark.kafka, pytest.mark.timeout(180)]

COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yml"
SECRETS = "/run/secrets/"
PASSWORD = "a password of Postgres: 'quoted'"


@pytest.fixture(scope="module")
def composed() -> Iterator[Installation]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="foldline-serve-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        secrets = folder / "secrets"
        secrets.mkdir(mode=0o700)
        _certificate(folder)
        with ThreadPoolExecutor() as both:
            starting = both.submit(stack.enter_context, _kafka(folder / "kafka", secrets))
            database = stack.enter_context(_postgres(folder / "pg", secrets))
            kafka = starting.result()
        ports = free_ports()
        environment = _environment(secrets, ports, FOLDLINE_KAFKA=kafka, FOLDLINE_DATABASE_URL=database)
        trust = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("SSL_CERT_FILE", "FOLDLINE_CA_FILE"):
            trust.setenv(name, str(secrets / "tls-certificate"))
        server = server_process.start("kafka", folder / "data", environment=environment, serve=True)
        installation = Installation(folder / "data", "kafka", environment, server)
        stack.callback(installation.close)
        yield installation


def test_the_composed_server_runs_a_job_and_knows_it_after_a_restart(composed: Installation, job: Callable[..., Path]) -> None:
    assert server_process.healthy(composed.server.url)
    composed.cli("workspace", "create", "lab")
    composed.cli("compute", "create", "--name", "pool", "--max-instances", "1")
    path = job("import foldline\nfoldline.log_metric('loss', 0.5)\nprint('on kafka')\n")
    composed.cli("job", "create", "-f", str(path), "--name", "heron", "--stream")
    assert composed.show("heron")["status"] == "completed"
    assert composed.cli("job", "logs", "--name", "heron").stdout == "on kafka\n"
    story = [one["sequence"] for one in composed.ask("job", "story", "--name", "heron")]
    assert len(story) > 3

    first = composed.server
    server_process.stop(first)
    composed.server = server_process.start("kafka", composed.data, environment=composed.ports, serve=True)
    assert composed.server.pid != first.pid
    assert composed.show("heron")["status"] == "completed"
    assert [one["sequence"] for one in composed.ask("job", "story", "--name", "heron")][: len(story)] == story


def test_nothing_of_its_own_was_started_in_place_of_the_external_ones(composed: Installation) -> None:
    assert not (composed.data / "pg").exists()
    assert not (composed.data / "kafka").exists()


def _environment(secrets: Path, ports: dict[str, str], **addresses: str) -> dict[str, str]:
    """The composed server's own, with addresses and the place of secrets replaced."""
    written: dict[str, str] = yaml.safe_load(COMPOSE.read_text())["services"]["server"]["environment"]
    assert addresses.keys() <= written.keys()
    moved = {name: value.replace(SECRETS, f"{secrets}/") for name, value in written.items()}
    moved["FOLDLINE_PUBLIC_URL"] = moved["FOLDLINE_PUBLIC_URL"].replace("8321", ports["FOLDLINE_PORT"])
    return {**moved, **addresses, **ports, **QUICK}


def _certificate(folder: Path) -> None:
    """Runs the command that the compose file gives."""
    text = "\n".join(line.removeprefix("#").strip() for line in COMPOSE.read_text().splitlines() if line.startswith("#"))
    found = re.search(r"openssl req [^;]*", text)
    assert found is not None
    subprocess.run(["bash", "-c", found.group()], cwd=folder, check=True, capture_output=True)


@contextmanager
def _kafka(data: Path, secrets: Path) -> Iterator[str]:
    """A broker with SASL from the jars; its passwords are where the compose file expects them."""
    data.mkdir()
    pid_file = data / "broker.pid"
    settings = broker.start_detached(data, pid_file)
    try:
        for name in ("writer", "admin"):
            shutil.copy(data / f"{name}-password", secrets / f"kafka-{name}")
        yield settings["FOLDLINE_KAFKA"]
    finally:
        server_process._end(int(pid_file.read_text()), 20)


@contextmanager
def _postgres(directory: Path, secrets: Path) -> Iterator[str]:
    """A Postgres that asks for a password over TCP, as the one in the compose file does; yields its address."""
    directory.mkdir(mode=0o711)
    cluster = prepare(directory, fsync=False)
    with (cluster.data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
    port = int(free_ports()["FOLDLINE_PORT"])
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": cluster.sockets, "fsync": "off"}
    argv = cluster.command("postgres", "-D", str(cluster.data), *(f"--{name}={value}" for name, value in options.items()))
    with cluster.log.open("wb") as said:
        process = subprocess.Popen(argv, **{**run_as(cluster.owner), "stdout": said, "stderr": said})  # type: ignore[call-overload]  # options of two kinds
    try:
        asyncio.run(_make_database(cluster, port))
        (secrets / "postgres").write_text(PASSWORD)
        yield f"postgresql://foldline@127.0.0.1:{port}/foldline"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


async def _make_database(cluster: Cluster, port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                connection = await asyncpg.connect(host=str(cluster.sockets), port=port, user="foldline", database="postgres")
                break
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
    await connection.execute("CREATE DATABASE foldline")
    quoted = PASSWORD.replace("'", "''")
    await connection.execute(f"ALTER ROLE foldline PASSWORD '{quoted}'")
    await connection.close()
