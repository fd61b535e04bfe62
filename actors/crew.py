"""All actors of a server, in the order in which they hear: whoever shortens a run's way to its node comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from actors import autoscaler, deployer, node, scheduler, watchdog
from actors.actor import Actor
from actors.desk import Desk
from actors.hands import DeployerHands, NodeHands, WatchdogHands
from actors.role import Hands, Role
from core.execute import Executor
from core.ids import WorkspaceId
from core.ports import Clock, Gateway, Nodes, Serving, Shards, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    lease_seconds: float = 15.0
    unreachable_limit_seconds: float = 86_400.0
    join_seconds: float = 60.0
    drain_seconds: float = 10.0
    tick_seconds: float = 1.0
    look_seconds: float = 2.0


def crew(
    *, executor: Executor, clock: Clock, shards: Shards, shard_count: int, desk: Desk, nodes: Nodes,
    node_token: Callable[[WorkspaceId, str], str], serving: Serving, gateway: Gateway, vault: Vault, timers: Timers,
) -> list[Callable[[], Actor[Any]]]:
    """How to make each actor; the supervisor makes it at the start and again after a failure."""

    def make(role: Role[Any], hands: Callable[[], Hands] | None = None) -> Callable[[], Actor[Any]]:
        timed = replace(role, tick_seconds=min(role.tick_seconds, timers.tick_seconds))
        return lambda: Actor(timed, executor, clock, shards, shard_count=shard_count, hands=hands() if hands else None)

    watching = watchdog.role(lease_seconds=timers.lease_seconds, unreachable_limit_seconds=timers.unreachable_limit_seconds)
    return [
        make(scheduler.ROLE),
        make(autoscaler.ROLE),
        make(node.role(join_seconds=timers.join_seconds), lambda: NodeHands(nodes, clock, node_token, look_seconds=timers.look_seconds)),
        make(watching, lambda: WatchdogHands(desk, clock, lease_seconds=timers.lease_seconds)),
        make(deployer.role(drain_seconds=timers.drain_seconds), lambda: DeployerHands(serving, gateway, vault)),
    ]
