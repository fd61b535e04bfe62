"""A run: one execution of a script, in one or more attempts. Stream `run/<id>`.

Placing and ending a run take and free a slot of a node in the same commit, so a node is never over its capacity and a
slot is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from core import experiments, nodes
from core.computes import Cluster
from core.computes import stream_of as compute_stream
from core.decider import Decision, Handler, Kind, States, one_stream
from core.environments import EnvironmentSpec
from core.errors import AlreadyExists, Conflict, Invalid, NoCapacity, NotFound, RunFinished, StaleAttempt
from core.events import Event, Value
from core.ids import Stream

Outcome = Literal["completed", "failed", "canceled"]
Phase = Literal["preparing", "running", "finalizing"]
Status = Literal[
    "queued", "preparing", "running", "finalizing", "canceling", "preempted", "unreachable", "completed", "failed", "canceled",
]
Reason = Literal[
    "succeeded", "exit_code", "signal", "canceled", "node_lost", "preparation_failed", "time_limit", "out_of_memory", "agent_error",
]


class JobInput(Value):
    """A literal given to the command. References to data come with their own issue."""

    literal: str | int | float | bool


class JobOutput(Value):
    """A writable folder that is kept with the run under its name."""

    kind: str = "uri_folder"
    mode: str = "rw_mount"


class GitFacts(Value):
    """Where the code came from, when its folder was a checkout. No userinfo in the URL, no authors."""

    repository: str | None = None
    branch: str | None = None
    commit: str
    dirty: bool


class JobSpec(Value):
    """What is to be executed; the command still has its `${{...}}` expressions."""

    command: str
    inputs: dict[str, JobInput] = {}
    outputs: dict[str, JobOutput] = {}
    environment: EnvironmentSpec
    environment_variables: dict[str, str] = {}
    time_limit_seconds: float | None = None
    slots: int = 1
    retries_on_node_lost: int = 0


class SourceEnd(Value):
    """The last batch of one source of measurements, so that a reader knows when a curve is complete."""

    source: str
    last_sequence: int
    digest: str


# -- events ------------------------------------------------------------------------------------------------------------
class RunSubmitted(Event):
    """Somebody wants a script executed. The run waits for a node."""

    type: Literal["run-submitted"] = "run-submitted"
    run: str
    experiment: str
    compute: str
    job: JobSpec
    snapshot: str | None = None
    """Manifest digest of the code folder."""
    code_path: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = {}
    parent: str | None = None
    git: GitFacts | None = None
    warnings: tuple[str, ...] = ()
    """What was replaced or ignored, a sentence each."""


class RunPlaced(Event):
    """A node was found; the attempt prepares there."""

    type: Literal["run-placed"] = "run-placed"
    run: str
    attempt: int
    node: str
    reason: str


class RunStarted(Event):
    """The script runs."""

    type: Literal["run-started"] = "run-started"
    run: str
    attempt: int
    environment_key: str
    environment_lock: str | None = None
    """Digest of the list of resolved versions."""
    environment_cached: bool = True
    sandbox: str = ""
    preparing_seconds: float | None = None


class RunScriptExited(Event):
    """The script ended; outputs and logs are being stored."""

    type: Literal["run-script-exited"] = "run-script-exited"
    run: str
    attempt: int
    exit_code: int
    """Negative: killed by that signal."""


class RunCancelRequested(Event):
    """Somebody wants the run stopped; it gets its grace."""

    type: Literal["run-cancel-requested"] = "run-cancel-requested"
    run: str


class RunPreempted(Event):
    """The attempt is stopped to make room; the run goes back to the queue."""

    type: Literal["run-preempted"] = "run-preempted"
    run: str
    attempt: int
    reason: str


class RunUnreachable(Event):
    """Nothing was heard of the attempt for a lease. Not final: the script may go on, and keeps its slot."""

    type: Literal["run-unreachable"] = "run-unreachable"
    run: str
    attempt: int
    silent_seconds: float


class RunReachable(Event):
    """The attempt is heard of again."""

    type: Literal["run-reachable"] = "run-reachable"
    run: str
    attempt: int


class RunRequeued(Event):
    """The attempt is over and the run waits for another."""

    type: Literal["run-requeued"] = "run-requeued"
    run: str
    attempt: int
    cause: Literal["node_lost", "preempted"]
    message: str


class RunEnded(Event):
    """The run reached an outcome, its outputs and logs stored. No outcome follows in this stream."""

    type: Literal["run-ended"] = "run-ended"
    run: str
    attempt: int | None = None
    outcome: Outcome
    reason: Reason
    message: str
    exit_code: int | None = None
    outputs: str | None = None
    """Manifest digest of all files kept: outputs/, logs/, user_logs/ and named outputs."""
    output_files: int = 0
    output_bytes: int = 0
    sources: tuple[SourceEnd, ...] = ()


class RunLateReported(Event):
    """Evidence that came after the end: kept, and changes no outcome."""

    type: Literal["run-late-reported"] = "run-late-reported"
    run: str
    attempt: int
    message: str


class RunParametersLogged(Event):
    """The script named its parameters. A parameter never changes once logged."""

    type: Literal["run-parameters-logged"] = "run-parameters-logged"
    run: str
    parameters: dict[str, str]


class RunFileStored(Event):
    """A file was stored with the run while it runs, or a picture made of it afterwards."""

    type: Literal["run-file-stored"] = "run-file-stored"
    run: str
    path: str
    sha256: str
    bytes: int


class RunUpdated(Event):
    """Its texts or tags changed; only what changed is there."""

    type: Literal["run-updated"] = "run-updated"
    run: str
    display_name: str | None = None
    description: str | None = None
    tags_set: dict[str, str] = {}
    tags_removed: tuple[str, ...] = ()


class RunArchived(Event):
    """Hidden from lists."""

    type: Literal["run-archived"] = "run-archived"
    run: str


class RunRestored(Event):
    type: Literal["run-restored"] = "run-restored"
    run: str


EVENTS = (
    RunSubmitted, RunPlaced, RunStarted, RunScriptExited, RunCancelRequested, RunPreempted, RunUnreachable, RunReachable, RunRequeued,
    RunEnded, RunLateReported, RunParametersLogged, RunFileStored, RunUpdated, RunArchived, RunRestored,
)


# -- state -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class NoRun:
    """Never submitted."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What stays the same from phase to phase, or changes beside them."""

    run: str
    compute: str
    slots: int
    retries_on_node_lost: int
    display_name: str | None
    description: str | None
    tags: dict[str, str]
    parameters: dict[str, str]
    files: dict[str, str]
    archived: bool = False
    parent: str | None = None
    late: frozenset[int] = frozenset()
    """Attempts that reported after they had stopped to count; one report each is kept."""


@dataclass(frozen=True, slots=True)
class Queued:
    facts: Facts
    attempts: int
    """How many attempts are over."""


@dataclass(frozen=True, slots=True)
class Placed:
    facts: Facts
    attempt: int
    node: str
    phase: Phase
    stopping: Literal["no", "canceling", "preempted"]
    reachable: bool


@dataclass(frozen=True, slots=True)
class Finished:
    facts: Facts
    attempt: int
    outcome: Outcome
    lost: bool = False
    """Ended without its agent's word."""


Run = NoRun | Queued | Placed | Finished


def status(state: Queued | Placed | Finished) -> Status:
    """The one word that people see."""
    match state:
        case Queued():
            return "queued"
        case Finished(outcome=outcome):
            return outcome
        case Placed(reachable=False):
            return "unreachable"
        case Placed(stopping="canceling"):
            return "canceling"
        case Placed(stopping="preempted"):
            return "preempted"
        case Placed(phase=phase):
            return phase
        case _:
            assert_never(state)


# -- evolve ------------------------------------------------------------------------------------------------------------
def evolve(state: Run, event: Event) -> Run:
    match state, event:
        case NoRun(), RunSubmitted():
            return Queued(Facts(
                event.run, event.compute, event.job.slots, event.job.retries_on_node_lost,
                event.display_name, event.description, event.tags, {}, {}, parent=event.parent,
            ), 0)
        case Queued(), RunPlaced():
            return Placed(state.facts, event.attempt, event.node, "preparing", "no", True)
        case Placed(), RunStarted():
            return replace(state, phase="running")
        case Placed(), RunScriptExited():
            return replace(state, phase="finalizing")
        case Placed(), RunCancelRequested():
            return replace(state, stopping="canceling")
        case Placed(), RunPreempted():
            return replace(state, stopping="preempted")
        case Placed(), RunUnreachable():
            return replace(state, reachable=False)
        case Placed(), RunReachable():
            return replace(state, reachable=True)
        case Placed(), RunRequeued():
            left = state.facts.retries_on_node_lost - (event.cause == "node_lost")
            return Queued(replace(state.facts, retries_on_node_lost=left), state.attempt)
        case Queued(), RunEnded():
            return Finished(state.facts, state.attempts, event.outcome)
        case Placed(), RunEnded():
            return Finished(state.facts, state.attempt, event.outcome, event.reason == "node_lost")
        case (Queued() | Placed() | Finished()), _:
            return replace(state, facts=_evolve_facts(state.facts, event))
        case _:
            return state


def _evolve_facts(facts: Facts, event: Event) -> Facts:
    match event:
        case RunParametersLogged():
            return replace(facts, parameters={**facts.parameters, **event.parameters})
        case RunFileStored():
            return replace(facts, files={**facts.files, event.path: event.sha256})
        case RunUpdated():
            tags = {k: v for k, v in facts.tags.items() if k not in event.tags_removed} | event.tags_set
            return replace(
                facts, tags=tags,
                display_name=facts.display_name if event.display_name is None else event.display_name,
                description=facts.description if event.description is None else event.description,
            )
        case RunLateReported():
            return replace(facts, late=facts.late | {event.attempt})
        case RunArchived():
            return replace(facts, archived=True)
        case RunRestored():
            return replace(facts, archived=False)
        case _:
            return facts


# -- commands ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRun:
    run: str
    experiment: str
    compute: str
    job: JobSpec
    snapshot: str | None = None
    code_path: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str]
    parent: str | None = None
    git: GitFacts | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceRun:
    run: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportStarted:
    run: str
    attempt: int
    environment_key: str
    environment_lock: str | None = None
    environment_cached: bool = True
    sandbox: str = ""
    preparing_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScriptExited:
    run: str
    attempt: int
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEnded:
    """The agent has stored everything of the attempt. `outcome` is the agent's; a preemption in force overrules it when the script
    was stopped for it (`reason` canceled). An `agent_error` is a lost node: the run is queued again if it allows that."""

    run: str
    attempt: int
    outcome: Outcome
    reason: Reason
    message: str
    exit_code: int | None = None
    outputs: str | None = None
    output_files: int = 0
    output_bytes: int = 0
    sources: tuple[SourceEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLateReport:
    """An attempt that does not count any more told how it ended: evidence that changes no outcome."""

    run: str
    attempt: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptRun:
    run: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRunUnreachable:
    run: str
    attempt: int
    silent_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRunReachable:
    run: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpRun:
    """Unreachable for longer than the limit, with nobody to say that the machine is gone."""

    run: str
    attempt: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogParameters:
    run: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRunFile:
    run: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRun:
    run: str
    display_name: str | None = None
    description: str | None = None
    tags_set: dict[str, str]
    tags_removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRun:
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRun:
    run: str


# -- decide ------------------------------------------------------------------------------------------------------------
def submit(states: States, command: SubmitRun) -> Decision:
    stream, experiment = stream_of(command.run), experiments.stream_of(command.experiment)
    if not isinstance(states[stream], NoRun):
        raise AlreadyExists("run", command.run)
    if not isinstance(states[compute_stream(command.compute)], Cluster):
        raise NotFound("compute", command.compute)
    cluster: Cluster = states[compute_stream(command.compute)]
    if command.job.slots > cluster.slots_per_node:
        raise Invalid(
            f"The job needs {command.job.slots} slots on one node; nodes of {command.compute!r} have {cluster.slots_per_node}.",
            field="slots",
        )
    if command.parent is not None and isinstance(states[stream_of(command.parent)], NoRun):
        raise NotFound("run", command.parent)
    made: dict[Stream, Sequence[Event]] = {}
    if isinstance(states[experiment], experiments.NoExperiment):
        made[experiment] = (experiments.ExperimentCreated(experiment=command.experiment),)
    made[stream] = (RunSubmitted(
        run=command.run, experiment=command.experiment, compute=command.compute, job=command.job, snapshot=command.snapshot,
        code_path=command.code_path, display_name=command.display_name, description=command.description, tags=command.tags,
        parent=command.parent, git=command.git, warnings=command.warnings,
    ),)
    return made


def place(states: States, command: PlaceRun) -> Decision:
    run: Run = states[stream_of(command.run)]
    node: nodes.Node = states[nodes.stream_of(command.node)]
    match run:
        case NoRun():
            raise NotFound("run", command.run)
        case Placed() | Finished():
            return {}
        case Queued():
            if not isinstance(node, nodes.Ready) or not node.reachable or node.free < run.facts.slots:
                raise NoCapacity(f"Node {command.node!r} has no room for the run now.", node=command.node)
            attempt = run.attempts + 1
            taken = nodes.SlotTaken(node=command.node, run=command.run, attempt=attempt, slots=run.facts.slots)
            return {
                stream_of(command.run): (RunPlaced(run=command.run, attempt=attempt, node=command.node, reason=command.reason),),
                nodes.stream_of(command.node): (taken,),
            }
        case _:
            assert_never(run)


def report_started(state: Run, command: ReportStarted) -> Sequence[Event]:
    placed = _current(state, command.run, command.attempt)
    back = _heard(placed)
    if placed.phase != "preparing":
        return back
    return (*back, RunStarted(
        run=command.run, attempt=command.attempt, environment_key=command.environment_key, environment_lock=command.environment_lock,
        environment_cached=command.environment_cached, sandbox=command.sandbox, preparing_seconds=command.preparing_seconds,
    ))


def report_exited(state: Run, command: ReportScriptExited) -> Sequence[Event]:
    placed = _current(state, command.run, command.attempt)
    back = _heard(placed)
    if placed.phase == "finalizing":
        return back
    return (*back, RunScriptExited(run=command.run, attempt=command.attempt, exit_code=command.exit_code))


def report_ended(states: States, command: ReportEnded) -> Decision:
    state: Run = states[stream_of(command.run)]
    if isinstance(state, Finished) and state.attempt == command.attempt and not state.lost:
        return {}
    placed = _current(state, command.run, command.attempt)
    if placed.stopping == "preempted" and command.reason == "canceled":
        over: Event = RunRequeued(run=command.run, attempt=command.attempt, cause="preempted", message=command.message)
    elif command.reason == "agent_error" and placed.stopping == "no" and placed.facts.retries_on_node_lost > 0:
        over = RunRequeued(run=command.run, attempt=command.attempt, cause="node_lost", message=command.message)
    else:
        over = RunEnded(
            run=command.run, attempt=command.attempt, outcome=command.outcome, reason=command.reason, message=command.message,
            exit_code=command.exit_code, outputs=command.outputs, output_files=command.output_files, output_bytes=command.output_bytes,
            sources=command.sources,
        )
    return {stream_of(command.run): (*_heard(placed), over), **_freed(states, placed)}


def keep_late(state: Run, command: KeepLateReport) -> Sequence[Event]:
    match state:
        case NoRun():
            raise NotFound("run", command.run)
        case Queued():
            over = command.attempt <= state.attempts
        case Placed():
            over = command.attempt < state.attempt
        case Finished():
            over = command.attempt <= state.attempt
        case _:
            assert_never(state)
    if not over or command.attempt in state.facts.late:
        return ()
    return (RunLateReported(run=command.run, attempt=command.attempt, message=command.message),)


def cancel(state: Run, command: CancelRun) -> Sequence[Event]:
    match state:
        case NoRun():
            raise NotFound("run", command.run)
        case Queued():
            return (RunEnded(
                run=command.run, attempt=state.attempts or None, outcome="canceled", reason="canceled",
                message="Canceled while it waited in the queue.",
            ),)
        case Placed(stopping="canceling") | Finished(outcome="canceled"):
            return ()
        case Placed():
            return (RunCancelRequested(run=command.run),)
        case Finished():
            raise RunFinished(command.run, state.outcome)
        case _:
            assert_never(state)


def preempt(state: Run, command: PreemptRun) -> Sequence[Event]:
    if isinstance(state, Placed) and state.stopping == "no" and state.phase != "finalizing":
        return (RunPreempted(run=command.run, attempt=state.attempt, reason=command.reason),)
    return ()


def mark_unreachable(state: Run, command: MarkRunUnreachable) -> Sequence[Event]:
    if isinstance(state, Placed) and state.attempt == command.attempt and state.reachable:
        return (RunUnreachable(run=command.run, attempt=command.attempt, silent_seconds=command.silent_seconds),)
    return ()


def mark_reachable(state: Run, command: MarkRunReachable) -> Sequence[Event]:
    return _heard(_current(state, command.run, command.attempt))


def give_up(states: States, command: GiveUpRun) -> Decision:
    state: Run = states[stream_of(command.run)]
    if not isinstance(state, Placed) or state.attempt != command.attempt or state.reachable:
        return {}
    return _lost(states, state, command.message)


def lose_node(states: States, command: nodes.LoseNode) -> Decision:
    """The node is gone; each of its runs is requeued or ends in the same commit."""
    node: nodes.Node = states[nodes.stream_of(command.node)]
    match node:
        case nodes.NoNode():
            raise NotFound("node", command.node)
        case nodes.Gone():
            return {}
        case nodes.Starting() | nodes.Releasing() | nodes.Ready():
            held = node.held if isinstance(node, nodes.Ready) else {}
        case _:
            assert_never(node)
    made: dict[Stream, Sequence[Event]] = {}
    freed: list[Event] = []
    for run, slot in held.items():
        state: Run = states[stream_of(run)]
        if isinstance(state, Placed) and state.attempt == slot.attempt:
            message = f"Its node {command.node} is gone: {command.reason}"
            made[stream_of(run)] = (_outcome_of_loss(state, message),)
        freed.append(nodes.SlotFreed(node=command.node, run=run, attempt=slot.attempt))
    made[nodes.stream_of(command.node)] = (*freed, nodes.NodeGone(node=command.node, reason=command.reason))
    return made


def log_parameters(state: Run, command: LogParameters) -> Sequence[Event]:
    facts = _facts(state, command.run)
    changed = [key for key, value in command.parameters.items() if facts.parameters.get(key, value) != value]
    if changed:
        key, before, after = changed[0], facts.parameters[changed[0]], command.parameters[changed[0]]
        raise Conflict(f"The parameter {key!r} is {before!r} already and never changes; {after!r} needs a new run.", parameter=key)
    new = {key: value for key, value in command.parameters.items() if key not in facts.parameters}
    return (RunParametersLogged(run=command.run, parameters=new),) if new else ()


def store_file(state: Run, command: StoreRunFile) -> Sequence[Event]:
    facts = _facts(state, command.run)
    if facts.files.get(command.path) == command.sha256:
        return ()
    return (RunFileStored(run=command.run, path=command.path, sha256=command.sha256, bytes=command.bytes),)


def update(state: Run, command: UpdateRun) -> Sequence[Event]:
    facts = _facts(state, command.run)
    set_now = {k: v for k, v in command.tags_set.items() if facts.tags.get(k) != v}
    removed = tuple(k for k in command.tags_removed if k in facts.tags and k not in command.tags_set)
    display_name = None if command.display_name == facts.display_name else command.display_name
    description = None if command.description == facts.description else command.description
    if not set_now and not removed and display_name is None and description is None:
        return ()
    return (RunUpdated(run=command.run, display_name=display_name, description=description, tags_set=set_now, tags_removed=removed),)


def archive(state: Run, command: ArchiveRun) -> Sequence[Event]:
    return () if _facts(state, command.run).archived else (RunArchived(run=command.run),)


def restore(state: Run, command: RestoreRun) -> Sequence[Event]:
    return (RunRestored(run=command.run),) if _facts(state, command.run).archived else ()


def _current(state: Run, run: str, attempt: int) -> Placed:
    """The placed run, when `attempt` is the one that counts. Raises: NotFound, StaleAttempt."""
    match state:
        case NoRun():
            raise NotFound("run", run)
        case Placed() if state.attempt == attempt:
            return state
        case Placed() | Finished():
            raise StaleAttempt(run, attempt, state.attempt)
        case Queued():
            raise StaleAttempt(run, attempt, None)
        case _:
            assert_never(state)


def _heard(placed: Placed) -> tuple[Event, ...]:
    return () if placed.reachable else (RunReachable(run=placed.facts.run, attempt=placed.attempt),)


def _facts(state: Run, run: str) -> Facts:
    if isinstance(state, NoRun):
        raise NotFound("run", run)
    return state.facts


def _lost(states: States, placed: Placed, message: str) -> Decision:
    return {stream_of(placed.facts.run): (_outcome_of_loss(placed, message),), **_freed(states, placed)}


def _outcome_of_loss(placed: Placed, message: str) -> Event:
    run = placed.facts.run
    if placed.stopping == "canceling":
        return RunEnded(run=run, attempt=placed.attempt, outcome="canceled", reason="canceled", message=message)
    if placed.facts.retries_on_node_lost > 0:
        return RunRequeued(run=run, attempt=placed.attempt, cause="node_lost", message=message)
    return RunEnded(run=run, attempt=placed.attempt, outcome="failed", reason="node_lost", message=message)


def _freed(states: States, placed: Placed) -> Decision:
    stream = nodes.stream_of(placed.node)
    node: nodes.Node = states[stream]
    held = node.held.get(placed.facts.run) if isinstance(node, nodes.Ready) else None
    if held is None or held.attempt != placed.attempt:
        return {}
    return {stream: (nodes.SlotFreed(node=placed.node, run=placed.facts.run, attempt=placed.attempt),)}


def stream_of(run: str) -> Stream:
    return Stream(f"run/{run}")


def _submit_streams(command: SubmitRun, _: States) -> Sequence[Stream]:
    wanted = [stream_of(command.run), experiments.stream_of(command.experiment), compute_stream(command.compute)]
    return wanted if command.parent is None else [*wanted, stream_of(command.parent)]


def _with_node(command: ReportEnded | GiveUpRun, states: States) -> Sequence[Stream]:
    state = states.get(stream_of(command.run))
    home = stream_of(command.run)
    return (home, nodes.stream_of(state.node)) if isinstance(state, Placed) else (home,)


def _with_runs(command: nodes.LoseNode, states: States) -> Sequence[Stream]:
    home = nodes.stream_of(command.node)
    node = states.get(home)
    return (home, *(stream_of(run) for run in node.held)) if isinstance(node, nodes.Ready) else (home,)


KIND = Kind("run", NoRun(), evolve, EVENTS)
HANDLERS: tuple[Handler, ...] = (
    Handler(SubmitRun, _submit_streams, submit),
    Handler(PlaceRun, lambda c, _: (stream_of(c.run), nodes.stream_of(c.node)), place),
    one_stream(ReportStarted, lambda c: stream_of(c.run), report_started),
    one_stream(ReportScriptExited, lambda c: stream_of(c.run), report_exited),
    Handler(ReportEnded, _with_node, report_ended),
    one_stream(KeepLateReport, lambda c: stream_of(c.run), keep_late),
    one_stream(CancelRun, lambda c: stream_of(c.run), cancel),
    one_stream(PreemptRun, lambda c: stream_of(c.run), preempt),
    one_stream(MarkRunUnreachable, lambda c: stream_of(c.run), mark_unreachable),
    one_stream(MarkRunReachable, lambda c: stream_of(c.run), mark_reachable),
    Handler(GiveUpRun, _with_node, give_up),
    Handler(nodes.LoseNode, _with_runs, lose_node),
    one_stream(LogParameters, lambda c: stream_of(c.run), log_parameters),
    one_stream(StoreRunFile, lambda c: stream_of(c.run), store_file),
    one_stream(UpdateRun, lambda c: stream_of(c.run), update),
    one_stream(ArchiveRun, lambda c: stream_of(c.run), archive),
    one_stream(RestoreRun, lambda c: stream_of(c.run), restore),
)
