"""The composition root: the only file that knows all. Opens everything in order, and closes it in the opposite one."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from actors.crew import Timers, crew
from actors.desk import Desk
from actors.supervisor import Supervisor
from adapters.blobs.files import FileBlobs
from adapters.clock import SystemClock
from adapters.gateway import EnvoyGateway
from adapters.http.services import EdgeSettings, Services
from adapters.http.tokens import node_token
from adapters.nodes.local import LocalNodes
from adapters.postgres.embedded import PostgresServer
from adapters.postgres.installation import installation_id
from adapters.postgres.log import PostgresLog
from adapters.postgres.measurements import PostgresMeasurements
from adapters.postgres.migrations import migrate
from adapters.postgres.people import PeopleTable
from adapters.postgres.pool import Database
from adapters.serving import ServingPool
from adapters.settings import Settings, bracketed
from adapters.snapshots.postgres import PostgresSnapshots
from adapters.vault.vault import open_vault
from core.execute import Executor
from core.ports import Clock
from foldline.node.environments import BuilderIdentity, EnvironmentCache
from foldline.node.sandbox import Sandbox, scrubbed_environment
from projections.progress import Progress
from projections.rebuild import Rebuilder
from projections.runner import Runner

if TYPE_CHECKING:
    from adapters.kafka.log import KafkaLog
    from adapters.kafka.measurements import KafkaMeasurements

log = structlog.get_logger()
BUILDER_UID = 209_999
EPOCH_OF_A_PERSON = 2**62
"""A person's word counts more than any server's."""


@dataclass(frozen=True, slots=True)
class Logs:
    """The two logs, whichever adapter they are."""

    events: PostgresLog | KafkaLog
    measurements: PostgresMeasurements | KafkaMeasurements


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Services]:
    """Everything that a server is made of but its HTTP front, running. What the block was given is closed after it."""
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        make_folders(settings)
        dsn = settings.database_url or await _embedded_postgres(stack, settings)
        database = await stack.enter_async_context(Database(dsn, password=_read_secret(settings.database_password_file)))
        await _migrate(database)
        vault = await open_vault(database, settings.secrets / "vault.key")
        blobs = FileBlobs(settings.data / "blobs")
        logs = await _open_logs(stack, settings, database, clock)
        executor = Executor(logs.events, logs.events.epoch)
        progress = Progress()
        runner = Runner(database, logs.events, logs.measurements, progress)
        await runner.prepare()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        projecting = group.create_task(runner.run(), name="projections")
        stack.callback(projecting.cancel)
        desk = Desk(clock, shard_count=logs.events.shards, wait_max_seconds=min(5.0, settings.lease_seconds / 3))
        sandbox = await asyncio.to_thread(Sandbox.probe)
        tell_of_missing(sandbox)
        gateway = await stack.enter_async_context(EnvoyGateway(
            settings.data / "gateway", host=settings.host, port=settings.gateway_port, certificate=settings.tls_certificate,
            key=settings.tls_key,
        ))
        cache = settings.data / "cache" / "node"
        environments = EnvironmentCache(cache / "environments", builder=BuilderIdentity(BUILDER_UID, sandbox))
        serving = await stack.enter_async_context(ServingPool(
            settings.data / "serving", blobs=blobs, environments=environments, sandbox=sandbox,
            gateway_gid=gateway.user.gid if gateway.user.own else None, start_limit_seconds=settings.replica_start_limit_seconds,
        ))
        nodes = LocalNodes(
            settings.data / "nodes", server_url=agent_url(settings), cache=cache, environment=scrubbed_environment(os.environ),
            ca_file=settings.tls_certificate,
        )
        actors = crew(
            executor=executor, clock=clock, shards=logs.events, shard_count=logs.events.shards, desk=desk, nodes=nodes,
            node_token=lambda workspace, node: node_token(vault, workspace, node), serving=serving, gateway=gateway, vault=vault,
            timers=_timers(settings),
        )
        supervisor = Supervisor(logs.events, logs.events, PostgresSnapshots(database), first=[desk], actors=actors)
        await stack.enter_async_context(supervisor)
        yield Services(
            settings=_edge_settings(settings, sandbox), executor=executor, log=logs.events, measurements=logs.measurements, blobs=blobs,
            vault=vault, clock=clock, pool=database, people=PeopleTable(database), desk=desk, progress=progress, serving=serving,
            gateway=gateway, rebuilder=Rebuilder(database, runner, progress),
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """What outlives a server on this machine."""

    nodes: LocalNodes
    serving: ServingPool
    gateway: EnvoyGateway

    async def stop(self) -> None:
        """Ends nodes with what they run, replicas, and the gateway."""
        for workspace, node in await self.nodes.list():
            await self.nodes.stop(workspace, node, EPOCH_OF_A_PERSON)
        await self.serving.shut_down()
        await self.gateway.shut_down()


def outside(settings: Settings, *, agents: str) -> Outside:
    """As an earlier server left it; nothing is started or taken up. `agents` is the address that its nodes talk to."""
    sandbox, cache = Sandbox("none", "nothing is started"), settings.data / "cache" / "node"
    serving = ServingPool(
        settings.data / "serving", blobs=FileBlobs(settings.data / "blobs"), sandbox=sandbox, gateway_gid=None,
        environments=EnvironmentCache(cache / "environments", builder=BuilderIdentity(BUILDER_UID, sandbox)),
    )
    gateway = EnvoyGateway(settings.data / "gateway", host=settings.host, port=settings.gateway_port)
    return Outside(LocalNodes(settings.data / "nodes", server_url=agents, cache=cache, environment={}), serving, gateway)


def tell_of_missing(sandbox: Sandbox) -> None:
    """Without a sandbox the server runs all the same, and says so where nobody can overlook it."""
    if sandbox.kind != "none":
        return
    sentence = (
        f"Scripts and scoring workers run WITHOUT A SANDBOX on this machine, since {sandbox.reason}: they see its files and processes "
        "as their user does. Run only what you trust, or put this right and start again."
    )
    log.warning("sandbox.missing", reason=sandbox.reason, sentence=sentence)
    if sys.stdout.isatty():
        print(sentence, flush=True)


def make_folders(settings: Settings) -> None:
    """The data folder and the ones that hold secrets. Other users pass through `data` to what is theirs, and list nothing."""
    settings.data.mkdir(parents=True, exist_ok=True)
    settings.secrets.mkdir(mode=0o700, exist_ok=True)
    for name, mode in (("blobs", 0o700), ("nodes", 0o711), ("cache", 0o711), ("cache/node", 0o711)):
        (settings.data / name).mkdir(mode=mode, exist_ok=True)


def agent_url(settings: Settings) -> str:
    """Where local agents reach the server: loopback when it listens everywhere, under a name that its certificate knows."""
    if settings.host in ("0.0.0.0", "::") and settings.tls_certificate and settings.public_url:  # noqa: S104 - compared, not bound
        return settings.url
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "localhost") else settings.host  # noqa: S104 - compared, not bound
    return f"{'https' if settings.tls_certificate else 'http'}://{bracketed(host)}:{settings.port}"


async def _embedded_postgres(stack: AsyncExitStack, settings: Settings) -> str:
    server = await stack.enter_async_context(PostgresServer(settings.data / "pg"))
    return server.dsn


async def _migrate(database: Database) -> None:
    connection = await database.connect()
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _open_logs(stack: AsyncExitStack, settings: Settings, database: Database, clock: Clock) -> Logs:
    if settings.log == "postgres":
        events = await stack.enter_async_context(PostgresLog(database, clock))
        return Logs(events, await stack.enter_async_context(PostgresMeasurements(database, clock)))
    return await _open_kafka(stack, settings, database, clock)


async def _open_kafka(stack: AsyncExitStack, settings: Settings, database: Database, clock: Clock) -> Logs:
    from adapters.kafka.connection import Connection  # only here: the embedded default does not pay for them
    from adapters.kafka.log import KafkaLog
    from adapters.kafka.measurements import KafkaMeasurements
    from adapters.kafka.setup import set_up

    writer = Connection(
        bootstrap=settings.kafka, username=settings.kafka_user or None, password=_read_secret(settings.kafka_password_file),
    )
    admin = replace(writer, username=settings.kafka_admin_user, password=_read_secret(settings.kafka_admin_password_file)) \
        if settings.kafka_admin_user else writer
    topics = await set_up(
        admin, database, prefix=settings.kafka_prefix, shards=settings.shards, single_broker=settings.kafka_single_broker,
        writer=settings.kafka_user if settings.kafka_admin_user else None,
    )
    installation = await installation_id(database, clock)
    kafka = await stack.enter_async_context(KafkaLog(
        writer, database, topics.events, clock, installation=installation, server=_server_name(settings), url=settings.url,
    ))
    return Logs(kafka, await stack.enter_async_context(KafkaMeasurements(writer, topics.measurements)))


def _server_name(settings: Settings) -> str:
    """This server's own name for ever: kept in its data folder, so that a restarted one takes its shards back at once."""
    file = settings.data / "server-name"
    if not file.exists():
        file.write_text(f"{socket.gethostname()}-{os.urandom(4).hex()}\n")
    return file.read_text().strip()


def _timers(settings: Settings) -> Timers:
    return Timers(
        lease_seconds=settings.lease_seconds, unreachable_limit_seconds=settings.unreachable_limit_seconds,
        join_seconds=settings.node_start_limit_seconds, drain_seconds=settings.drain_seconds, tick_seconds=settings.tick_seconds,
        look_seconds=min(2.0, 2 * settings.tick_seconds),
    )


def _edge_settings(settings: Settings, sandbox: Sandbox) -> EdgeSettings:
    names = {"127.0.0.1", "localhost", "[::1]", settings.host, urlsplit(settings.url).hostname or "localhost"}
    return EdgeSettings(
        version=version("foldline-server"), public_url=settings.url, hosts=frozenset(names), log_kind=settings.log,
        heartbeat_seconds=settings.heartbeat_seconds, lease_seconds=settings.lease_seconds,
        cancel_grace_seconds=settings.cancel_grace_seconds, sandbox=sandbox.text,
    )


def _read_secret(file: Path | None) -> str | None:
    return file.read_text().strip() if file is not None else None
