"""The settings of a single KRaft broker on loopback, with or without SASL and access lists."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

USERS = ("admin", "writer", "monitor", "stranger")
"""admin: the broker itself and who sets it up · writer: the server · monitor: reads · stranger: may nothing."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a broker keeps over restarts: its ports, and its users' passwords when it has SASL."""

    port: int
    controller_port: int
    sasl: bool
    passwords: dict[str, str]
    cluster: str

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


def remembered(data: Path, *, sasl: bool, port: int | None) -> Node:
    """The node that `data` was made for, or a new one, written down (0600) for the next start."""
    file = data / "node.json"
    if file.exists():
        return Node(**json.loads(file.read_text()))
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    client, controller = _free_ports(port)
    passwords = {user: secrets.token_hex(16) for user in USERS} if sasl else {}
    node = Node(client, controller, sasl, passwords, secrets.token_urlsafe(16).replace("-", "x"))
    write_private(file, json.dumps(asdict(node)))
    return node


def properties(data: Path, node: Node) -> str:
    """server.properties of this node."""
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{node.controller_port}",
        "listeners": f"CLIENT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{node.port}",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": _protocols(node.sasl),
        "log.dirs": str(data / "log"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": "8388608",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "2000",
        "initial.broker.registration.timeout.ms": "60000",
    }
    if node.sasl:
        lines.update(_security(node))
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def write_private(file: Path, text: str) -> None:
    """Writes a file that only its owner can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as output:
        output.write(text)


def _protocols(sasl: bool) -> str:
    return "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT" if sasl else "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT"


def _security(node: Node) -> dict[str, str]:
    password = node.passwords["admin"]
    scram = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="{password}";'
    plain = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="admin" password="{password}" user_admin="{password}";'
    )
    return {
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-256",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.client.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:admin",
    }


def _free_ports(wanted: int | None) -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", wanted or 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
