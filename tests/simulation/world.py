"""A seeded simulation: the real deciders and the real roles over simulated time, machines, delays and faults.

Nothing here decides anything: commands are decided by core, wishes come from the roles' own `react`, the desk's floor tells agents
what to do. The world adds what reality adds: delays, lost messages, silent nodes, dead machines and people who change their mind.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from actors import autoscaler, node, scheduler, watchdog
from actors.floor import Floor
from actors.node import Listed, NodeStarted, NodeStopped, StartNode, StopNode
from actors.role import Call, Role, Send, Started
from actors.watchdog import SignsOfLife
from core import nodes, runs
from core.catalogue import HANDLERS, kind_of
from core.environments import EnvironmentSpec
from core.errors import Refusal
from core.events import Event, Recorded
from core.ids import ActorId, CommandId, Position, Stream, WorkspaceId, derived_command
from core.nodes import JoinNode, LoseNode, NodeFacts
from core.runs import JobSpec, ReportEnded, ReportScriptExited, ReportStarted

HOME = WorkspaceId("ws-0123456789ab")
DAWN = datetime(2026, 11, 23, tzinfo=UTC)
FACTS = NodeFacts(hostname="a", cores=2, memory_bytes=1, python="3.11", platform="linux", agent="0.1.0", sandbox="bubblewrap")
HEARTBEAT_SECONDS, LEASE_SECONDS, LIMIT_SECONDS, JOIN_SECONDS = 2.0, 15.0, 120.0, 60.0


class Violation(AssertionError):
    """Something happened that must never happen."""


@dataclass(slots=True)
class Actor:
    role: Role[Any]
    state: Any
    heard: int = 0
    due: bool = False
    sent: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Work:
    """One attempt on a machine, as its agent knows it."""

    run: str
    attempt: int
    retries: int
    stop: bool = False
    done: bool = False
    contact: float = 0.0


@dataclass(slots=True)
class Machine:
    name: str
    slots: int
    work: dict[tuple[str, int], Work] = field(default_factory=dict)
    silent_until: float = 0.0
    reports: list[Any] = field(default_factory=list)
    """Spooled, in order; sent when the server can be reached."""


class World:
    """One workspace, from a seed. `run(seconds)` lets time pass; the log is `log`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now, self._order = 0.0, itertools.count()
        self._future: list[tuple[float, int, Callable[[], None]]] = []
        self.log: list[Recorded] = []
        self.states: dict[Stream, Any] = {}
        self.versions: dict[Stream, int] = {}
        self.floor = Floor()
        self.machines: dict[str, Machine] = {}
        self.executions: dict[tuple[str, int], Machine] = {}
        self.heard: dict[str, set[tuple[str, int]]] = {}
        roles = (
            scheduler.ROLE, autoscaler.ROLE, node.role(join_seconds=JOIN_SECONDS),
            watchdog.role(lease_seconds=LEASE_SECONDS, unreachable_limit_seconds=LIMIT_SECONDS),
        )
        self.actors = [Actor(role, role.observe(role.initial, Started(self.clock()))) for role in roles]
        self.trouble_until = float("inf")
        self.every(1.0, self._tick)
        self.every(2.0, self._look)

    # -- time ----------------------------------------------------------------------------------------------------------
    def clock(self) -> datetime:
        return DAWN + timedelta(seconds=self.now)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._future, (self.now + seconds, next(self._order), act))

    def every(self, seconds: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self.after(seconds, again)

        self.after(seconds, again)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._future and self._future[0][0] <= until:
            self.now, _, act = heapq.heappop(self._future)
            act()
        self.now = until

    def troubled(self, probability: float) -> bool:
        return self.now < self.trouble_until and self.random.random() < probability

    # -- the log -------------------------------------------------------------------------------------------------------
    def do(self, command: Any, actor: str = "user/u-1") -> bool:
        """Decides and records; False when it was refused."""
        handler = HANDLERS[type(command)]
        states: dict[Stream, Any] = {}
        while missing := [name for name in handler.streams(command, states) if name not in states]:
            for name in missing:
                states[name] = self.states.get(name, kind_of(name).initial)
        try:
            decision = handler.decide(states, command)
        except Refusal:
            return False
        self._record(decision, actor)
        return True

    def _record(self, decision: Mapping[Stream, Sequence[Event]], actor: str) -> None:
        for stream, events in decision.items():
            kind = kind_of(stream)
            for event in events:
                self.versions[stream] = self.versions.get(stream, 0) + 1
                sequence = len(self.log) + 1
                self.states[stream] = kind.evolve(self.states.get(stream, kind.initial), event)
                recorded = Recorded(
                    event=event, id=f"{HOME}/{sequence}", workspace=HOME, stream=stream, version=self.versions[stream], sequence=sequence,
                    chain="", at=self.clock(), actor=ActorId(actor), correlation="c", causation=None, command=CommandId("c"),
                    traceparent=None, position=Position("simulation", 0, sequence - 1),
                )
                self.log.append(recorded)
                self.floor.apply(recorded)
        self._check(decision)
        for one in self.actors:
            self._wake(one)

    def _check(self, decision: Mapping[Stream, Sequence[Event]]) -> None:
        """What must hold after every commit."""
        for stream, events in decision.items():
            state = self.states[stream]
            if isinstance(state, nodes.Ready) and state.free < 0:
                raise Violation(f"{stream} is over its capacity")
            for event in events:
                if isinstance(event, nodes.NodeReleaseRequested) and self.floor.held.get(event.node):
                    raise Violation(f"{event.node} was removed while it held {self.floor.held[event.node]}")

    # -- actors --------------------------------------------------------------------------------------------------------
    def _wake(self, actor: Actor) -> None:
        if not actor.due:
            actor.due = True
            delay = self.random.uniform(1, 5) if self.troubled(0.01) else self.random.uniform(0.0005, 0.05)
            self.after(delay, lambda: self._turn(actor))

    def _turn(self, actor: Actor) -> None:
        actor.due = False
        for recorded in self.log[actor.heard:]:
            actor.state = actor.role.evolve(actor.state, recorded)
        actor.heard = len(self.log)
        for wish in actor.role.react(actor.state, self.clock()):
            key = derived_command(actor.role.name, wish.stream, wish.version, wish.ordinal) if isinstance(wish, Send) else wish.key
            if self.now - actor.sent.get(key, -10.0) < 5.0:
                continue
            actor.sent[key] = self.now
            if self.troubled(0.02):
                actor.sent.pop(key)
                continue
            delay = self.random.uniform(0.5, 8) if self.troubled(0.1) else self.random.uniform(0.001, 0.02)
            self.after(delay, lambda wish=wish: self._grant(actor, wish))  # type: ignore[misc]  # bound here

    def _grant(self, actor: Actor, wish: Send | Call) -> None:
        match wish:
            case Send(command=command, stream=stream, version=version, ordinal=ordinal):
                if not self.do(command, f"actor/{actor.role.name}"):
                    actor.sent.pop(derived_command(actor.role.name, stream, version, ordinal), None)
                    self._wake(actor)
            case Call(action=StartNode(name, _, slots)):
                self.after(self.random.uniform(0.2, 3.0), lambda: self._start_machine(actor, name, slots))
            case Call(action=StopNode(name)):
                self.machines.pop(name, None)
                actor.state = actor.role.observe(actor.state, NodeStopped(name))
                self._wake(actor)

    def _tick(self) -> None:
        for actor in self.actors:
            actor.sent = {key: at for key, at in actor.sent.items() if self.now - at < 5.0}
            if not actor.due:
                self._turn(actor)

    def _look(self) -> None:
        _, _, fleet, watcher = self.actors
        fleet.state = fleet.role.observe(fleet.state, Listed(frozenset(self.machines), self.clock()))
        attempts = frozenset(attempt for held in self.heard.values() for attempt in held)
        watcher.state = watcher.role.observe(watcher.state, SignsOfLife(frozenset(self.heard), attempts, self.clock()))
        self.heard = {}

    # -- machines ------------------------------------------------------------------------------------------------------
    def _start_machine(self, actor: Actor, name: str, slots: int) -> None:
        actor.state = actor.role.observe(actor.state, NodeStarted(name, self.clock()))
        if name in self.machines or self.troubled(0.05):
            return
        machine = self.machines[name] = Machine(name, slots)
        compute = name.rsplit("-", 1)[0]
        self.after(self.random.uniform(0.1, 1.0), lambda: self.do(JoinNode(node=name, compute=compute, slots=slots, facts=FACTS)))
        self._heartbeat(machine)

    def _heartbeat(self, machine: Machine) -> None:
        if self.machines.get(machine.name) is not machine:
            return
        if self.troubled(0.01):
            machine.silent_until = self.now + self.random.uniform(1, 60)
        if self.troubled(0.003):
            self._die(machine)
            return
        if self.now >= machine.silent_until:
            self._meet(machine)
        else:
            for key, work in list(machine.work.items()):
                if work.retries > 0 and self.now - work.contact > LEASE_SECONDS * 0.8:
                    self._finish(machine, work, "failed", "agent_error")
                    machine.work.pop(key, None)
        self.after(HEARTBEAT_SECONDS * self.random.uniform(0.5, 1.0), lambda: self._heartbeat(machine))

    def _meet(self, machine: Machine) -> None:
        """One request of the agent: spooled reports first, then signs of life, then what the desk's floor says."""
        while machine.reports:
            report = machine.reports.pop(0)
            self.do(report, f"node/{machine.name}")
        self.heard.setdefault(machine.name, set()).update(machine.work)
        held = self.floor.held.get(machine.name, {})
        for key, work in list(machine.work.items()):
            work.contact = self.now
            if held.get(key[0]) != key[1]:
                machine.work.pop(key)
        for run, attempt in list(held.items()):
            live = self.floor.runs[run]
            if (run, attempt) not in machine.work and live.phase == "preparing":
                self._begin(machine, Work(run, attempt, live.retries_on_node_lost, contact=self.now))
            work = machine.work.get((run, attempt))
            if work is not None and live.stopping is not None and not work.stop:
                work.stop = True
                self.after(self.random.uniform(0.1, 3), lambda work=work: self._finish(machine, work, "canceled", "canceled"))  # type: ignore[misc]

    def _begin(self, machine: Machine, work: Work) -> None:
        key = (work.run, work.attempt)
        before = self.executions.get(key)
        if before is not None and (before is machine or self.machines.get(before.name) is before):
            raise Violation(f"{key} is executed twice")
        self.executions[key] = machine
        machine.work[key] = work
        preparing, running = self.random.uniform(0.05, 2), self.random.choice((0.05, 1, 10, 40)) * self.random.uniform(0.5, 1.5)
        started = ReportStarted(run=work.run, attempt=work.attempt, environment_key="e")
        self.after(preparing, lambda: self._report(machine, work, started))
        code = 0 if self.random.random() < 0.8 else 1
        exited = ReportScriptExited(run=work.run, attempt=work.attempt, exit_code=code)
        self.after(preparing + running, lambda: self._report(machine, work, exited))
        outcome, reason = ("completed", "succeeded") if code == 0 else ("failed", "exit_code")
        self.after(preparing + running + self.random.uniform(0.01, 1), lambda: self._finish(machine, work, outcome, reason))

    def _report(self, machine: Machine, work: Work, report: Any) -> None:
        alive = self.machines.get(machine.name) is machine and (work.run, work.attempt) in machine.work
        if work.done or not alive:
            return
        if self.now < machine.silent_until:
            machine.reports.append(report)
        else:
            self.do(report, f"node/{machine.name}")

    def _finish(self, machine: Machine, work: Work, outcome: str, reason: str) -> None:
        report = ReportEnded(run=work.run, attempt=work.attempt, outcome=outcome, reason=reason, message=reason)  # type: ignore[arg-type]
        self._report(machine, work, report)
        if not work.done and self.machines.get(machine.name) is machine:
            work.done = True
            machine.work.pop((work.run, work.attempt), None)

    def _die(self, machine: Machine) -> None:
        """The machine burns; somebody says so, or nobody ever does."""
        self.machines.pop(machine.name, None)
        if self.random.random() < 0.5:
            self.after(self.random.uniform(5, 40), lambda: self.do(LoseNode(node=machine.name, reason="it burned")))

    # -- at quiet ------------------------------------------------------------------------------------------------------
    def check_at_quiet(self) -> None:
        """What must hold once nobody wants anything any more and no fault is left."""
        ends: dict[str, int] = {}
        for recorded in self.log:
            if isinstance(recorded.event, runs.RunEnded):
                ends[recorded.event.run] = ends.get(recorded.event.run, 0) + 1
        submitted = [one.event.run for one in self.log if isinstance(one.event, runs.RunSubmitted)]
        if ends != dict.fromkeys(submitted, 1):
            raise Violation(f"ended not exactly once: { {run: ends.get(run, 0) for run in submitted if ends.get(run, 0) != 1} }")
        for stream, state in self.states.items():
            if isinstance(state, nodes.Ready) and state.held:
                raise Violation(f"{stream} still holds {state.held}")


def job(slots: int, retries: int) -> JobSpec:
    return JobSpec(command="true", environment=EnvironmentSpec(), slots=slots, retries_on_node_lost=retries)
