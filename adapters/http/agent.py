"""The agent's channel: it says hello, waits for work, and tells what becomes of each attempt.

A report from an attempt that is no longer the run's, or not this node's, is 409 `stale_attempt` and changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.responses import Response

from actors.desk import Assignment as Given
from actors.desk import HeldAttempt, Work
from adapters.http.access import API
from adapters.http.call import Call
from adapters.http.problems import Problem
from adapters.http.routing import Route
from adapters.http.tokens import run_token
from core import nodes, runs
from core.errors import Conflict, NotFound, StaleAttempt
from core.execute import Done
from core.ids import derived_command
from core.nodes import JoinNode, NodeFacts
from core.ports import Context
from core.runs import (
    KeepLateReport,
    LogParameters,
    ReportEnded,
    ReportScriptExited,
    ReportStarted,
    RunPlaced,
    SourceEnd,
    UpdateRun,
    stream_of,
)
from foldline.wire.nodes import (
    PROTOCOL,
    Assignment,
    Attempt,
    Ended,
    Exited,
    Hello,
    Parameters,
    Started,
    Stop,
    Timers,
    WorkAnswer,
    WorkRequest,
)
from foldline.wire.shapes import Request, Tags

ATTEMPT_MAX = 1_000_000_000


class TagsSent(Request):
    """`POST /api/v1/agent/runs/{run}/tags`."""

    tags: Tags


def check_protocol(call: Call) -> None:
    """Raises: Problem 426 with the range that this server speaks."""
    if call.headers.get(b"foldline-protocol") != [str(PROTOCOL).encode()]:
        raise Problem(
            426, "unsupported_protocol", f"This server speaks agent protocol {PROTOCOL}; install a matching `foldline` on the node.",
            headers={"Upgrade": f"foldline/{PROTOCOL}"}, least=PROTOCOL, most=PROTOCOL,
        )


async def hello(call: Call) -> Response:
    check_protocol(call)
    wanted = await call.body(Hello)
    caller = call.node
    state = await call.services.executor.state(caller.workspace, nodes.stream_of(caller.node))
    if not isinstance(state, nodes.Starting | nodes.Ready):
        raise Conflict("This node was released; its agent may end.", node=caller.node)
    await call.execute(JoinNode(
        node=caller.node, compute=state.compute, slots=wanted.slots, facts=NodeFacts(**wanted.facts.model_dump()),
    ), workspace=caller.workspace)
    call.services.desk.heard(caller.workspace, caller.node, ())
    return call.answer(timers(call, caller.node, caller.workspace, state.compute))


def timers(call: Call, node: str, workspace: str, compute: str) -> Timers:
    settings = call.services.settings
    return Timers(
        node=node, workspace=workspace, compute=compute, heartbeat_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds, cancel_grace_seconds=settings.cancel_grace_seconds,
    )


async def work(call: Call) -> Response:
    """Held until there is news for the node; every one is also a sign of life."""
    check_protocol(call)
    wanted = await call.body(WorkRequest)
    caller = call.node
    held = [HeldAttempt(one.run, one.attempt, one.phase) for one in wanted.attempts]
    found = await call.services.desk.work(caller.workspace, caller.node, held, wanted.wait_seconds)
    return call.answer(_work_answer(call, found))


def _work_answer(call: Call, work: Work) -> WorkAnswer:
    grace = call.services.settings.cancel_grace_seconds
    return WorkAnswer(
        assignments=[_assignment(call, one) for one in work.assignments],
        stops=[Stop(run=one.run, attempt=one.attempt, cause=one.cause, grace_seconds=grace) for one in work.stops],
        drop=[Attempt(run=one.run, attempt=one.attempt, phase=one.phase) for one in work.drop], release=work.release,
    )


def _assignment(call: Call, given: Given) -> Assignment:
    submitted = given.submitted
    job, workspace = submitted.job, call.node.workspace
    return Assignment(
        workspace=workspace, workspace_name=call.workspace_state.name if call.workspace_state else workspace, run=given.run,
        attempt=given.attempt, experiment=submitted.experiment, display_name=submitted.display_name, parent=submitted.parent,
        root=given.root, command=job.command, inputs={name: one.literal for name, one in job.inputs.items()},
        outputs={name: one.kind for name, one in job.outputs.items()}, environment_key=job.environment.key, python=job.environment.python,
        packages=list(job.environment.packages), environment_variables={**job.environment.variables, **job.environment_variables},
        snapshot=submitted.snapshot, time_limit_seconds=job.time_limit_seconds,
        run_token=run_token(call.services.vault, workspace, given.run, given.attempt), traceparent=given.traceparent, slots=job.slots,
        retries_on_node_lost=given.retries_on_node_lost,
    )


async def started(call: Call) -> Response:
    check_protocol(call)
    wanted, run = await call.body(Started), call.path["run"]
    await holding(call, run, wanted.attempt)
    return await _report(call, "started", wanted.attempt, ReportStarted(
        run=run, attempt=wanted.attempt, environment_key=wanted.environment_key, environment_lock=wanted.environment_lock,
        environment_cached=wanted.environment_cached, sandbox=wanted.sandbox, preparing_seconds=wanted.preparing_seconds,
    ))


async def exited(call: Call) -> Response:
    check_protocol(call)
    wanted, run = await call.body(Exited), call.path["run"]
    await holding(call, run, wanted.attempt)
    return await _report(call, "exited", wanted.attempt, ReportScriptExited(run=run, attempt=wanted.attempt, exit_code=wanted.exit_code))


async def ended(call: Call) -> Response:
    """Sent again until answered, so an end that is recorded already is fine."""
    check_protocol(call)
    wanted, run = await call.body(Ended), call.path["run"]
    state = await call.services.executor.state(call.node.workspace, stream_of(run))
    if not (isinstance(state, runs.Finished) and state.attempt == wanted.attempt and not state.lost):
        try:
            await holding(call, run, wanted.attempt)
        except StaleAttempt:
            await _keep_late(call, run, wanted)
            raise
    if wanted.outputs is not None and await call.services.blobs.size(call.node.workspace, wanted.outputs) is None:
        raise NotFound("snapshot", wanted.outputs)
    return await _report(call, "ended", wanted.attempt, ReportEnded(
        run=run, attempt=wanted.attempt, outcome=wanted.outcome, reason=wanted.reason, message=wanted.message, exit_code=wanted.exit_code,
        outputs=wanted.outputs, output_files=wanted.output_files, output_bytes=wanted.output_bytes,
        sources=tuple(SourceEnd(source=one.source, last_sequence=one.last_sequence, digest=one.digest) for one in wanted.sources),
    ))


async def _keep_late(call: Call, run: str, wanted: Ended) -> None:
    """What an attempt tells that does not count any more is kept as evidence, when it was this node's."""
    told = await call.services.log.read(call.node.workspace, stream_of(run))
    if any(isinstance(one.event, RunPlaced) and (one.event.attempt, one.event.node) == (wanted.attempt, call.node.node) for one in told):
        message = f"Attempt {wanted.attempt} reported later that it had ended as {wanted.outcome}: {wanted.message}"
        await _report(call, "late", wanted.attempt, KeepLateReport(run=run, attempt=wanted.attempt, message=message))


async def parameters(call: Call) -> Response:
    check_protocol(call)
    wanted, run = await call.body(Parameters), call.path["run"]
    attempt = await holding(call, run, call.number("attempt", None, 1, ATTEMPT_MAX))
    return await _report(call, "parameters", attempt, LogParameters(run=run, parameters=wanted.parameters))


async def tags(call: Call) -> Response:
    check_protocol(call)
    wanted, run = await call.body(TagsSent), call.path["run"]
    attempt = await holding(call, run, call.number("attempt", None, 1, ATTEMPT_MAX))
    return await _report(call, "tags", attempt, UpdateRun(run=run, tags_set=wanted.tags))


async def holding(call: Call, run: str, attempt: int | None) -> int:
    """The attempt that counts, when this node has it. Raises: NotFound, StaleAttempt."""
    caller = call.node
    state = await call.services.executor.state(caller.workspace, stream_of(run))
    match state:
        case runs.NoRun():
            raise NotFound("run", run)
        case runs.Placed() if state.node == caller.node and attempt in (None, state.attempt):
            return state.attempt
        case runs.Placed() | runs.Finished():
            raise StaleAttempt(run, attempt or 0, state.attempt)
        case _:
            raise StaleAttempt(run, attempt or 0, None)


async def _report(call: Call, what: str, attempt: int, command: Any) -> Response:
    """The same report is the same command. It is told to be the consequence of the attempt's placement."""
    caller, stream = call.node, stream_of(call.path["run"])
    told = await call.services.log.read(caller.workspace, stream)
    placed = [one for one in told if isinstance(one.event, RunPlaced) and one.event.attempt == attempt]
    told_now = hashlib.sha256(call.content).hexdigest()
    context = Context(
        actor=caller.actor, command=derived_command(f"http/{what}/{caller.node}", stream, attempt, told_now),
        correlation=told[0].correlation if told else call.request_id, causation=placed[-1].id if placed else None,
        traceparent=told[0].traceparent if told else None,
    )
    done: Done = await call.services.executor.execute(caller.workspace, command, context)
    call.position = done.position
    return call.done()


_RUN = f"{API}/agent/runs/{{run}}"
ROUTES = (
    Route(method="POST", path=f"{API}/agent/hello", handler=hello, summary="An agent is there", body=Hello, answer=Timers),
    Route(method="POST", path=f"{API}/agent/work", handler=work, summary="Wait for work", body=WorkRequest, answer=WorkAnswer, held=True),
    Route(method="POST", path=f"{_RUN}/started", handler=started, summary="The script runs", body=Started, status=204),
    Route(method="POST", path=f"{_RUN}/exited", handler=exited, summary="The script is over", body=Exited, status=204),
    Route(method="POST", path=f"{_RUN}/ended", handler=ended, summary="Everything is stored", body=Ended, status=204),
    Route(method="POST", path=f"{_RUN}/parameters", handler=parameters, summary="Parameters that the script named", body=Parameters,
          status=204, query=("attempt",)),
    Route(method="POST", path=f"{_RUN}/tags", handler=tags, summary="Tags that the script set", body=TagsSent, status=204,
          query=("attempt",)),
)
