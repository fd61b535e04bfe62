"""Jobs as they are submitted, runs as they are seen and changed."""

from __future__ import annotations

import re
from functools import reduce

from starlette.responses import Response

from adapters.http import environments, run_views
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.names import people_behind, run_name
from adapters.http.problems import Problem
from adapters.http.routing import Route
from core.errors import Invalid, NotFound
from core.execute import Done
from core.runs import (
    ArchiveRun,
    CancelRun,
    GitFacts,
    JobInput,
    JobOutput,
    JobSpec,
    LogParameters,
    RestoreRun,
    SubmitRun,
    UpdateRun,
    stream_of,
)
from foldline.wire.jobs import JobCreate, JobUpdate, Run, RunCreated
from foldline.wire.nodes import Parameters
from foldline.wire.shapes import Page
from projections import run_history
from projections.run_history import RunRow

STATUSES = ("queued", "preparing", "running", "finalizing", "canceling", "preempted", "unreachable", "completed", "failed", "canceled")
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_OPTIONAL = re.compile(r"\$\[\[.*?\]\]", re.DOTALL)


async def create(call: Call) -> Response:
    """Durable when answered; what it shows is folded from the very events, so that no read model is waited for."""
    wanted = await call.body(JobCreate)
    command = await submission(call, wanted)
    done = await call.execute(command)
    row = row_of(done)
    link = f"{call.services.settings.public_url}{W.format(workspace=_name(call))}/jobs/{row.run}"
    names = await people_behind(call.services, [row.submitted_by])
    call.headers_out["Location"] = link
    return call.answer(run_views.of_row(row, {}, names, call.services.clock.now(), None, link=link))


async def submission(call: Call, wanted: JobCreate) -> SubmitRun:
    """The command behind a job: references resolved, defaults filled in. Raises: Invalid, NotFound, Problem."""
    check_expressions(wanted)
    environment = await environments.resolve(call, wanted.environment)
    if wanted.snapshot is not None and await call.services.blobs.size(call.home, wanted.snapshot) is None:
        raise NotFound("snapshot", wanted.snapshot)
    warnings = list(wanted.warnings)
    if environment.image is not None and not any(text.startswith("image ") for text in warnings):
        warnings.append(f"image {environment.image[:150]} is replaced by the node's Python")
    job = JobSpec(
        command=wanted.command, inputs={name: JobInput(literal=value) for name, value in wanted.inputs.items()},
        outputs={name: JobOutput(kind=output.type, mode=output.mode) for name, output in wanted.outputs.items()},
        environment=environment, environment_variables=wanted.environment_variables, time_limit_seconds=wanted.time_limit_seconds,
        slots=wanted.slots, retries_on_node_lost=wanted.retries_on_node_lost,
    )
    return SubmitRun(
        run=wanted.name or run_name(call.derive("run-id")), experiment=wanted.experiment_name,
        compute=wanted.compute or _default_compute(call), job=job, snapshot=wanted.snapshot,
        code_path=wanted.code_path, display_name=wanted.display_name, description=wanted.description,
        tags=wanted.tags, parent=wanted.parent, git=None if wanted.git is None else GitFacts(**_git(wanted)), warnings=tuple(warnings),
    )


def row_of(done: Done) -> RunRow:
    """The run as its recorded events make it."""
    own = [one for one in done.recorded if one.stream.startswith("run/")]
    row: RunRow | None = reduce(run_history.fold, own, None)
    if row is None:
        raise Invalid("Nothing was submitted.")
    return row


def check_expressions(wanted: JobCreate) -> None:
    """Each `${{inputs.x}}` and `${{outputs.x}}` names something that is there; optional parts may name what is not."""
    for expression in _EXPRESSION.findall(_OPTIONAL.sub("", wanted.command)):
        kind, dot, name = expression.partition(".")
        if kind not in ("inputs", "outputs") or not dot:
            shown = f"${{{{{expression[:100]}}}}}"
            raise Invalid(f"The command has the expression {shown}; inputs.NAME and outputs.NAME are known.", field="command")
        known = set(wanted.inputs) if kind == "inputs" else set(wanted.outputs)
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise Invalid(f"The command names {kind}.{name[:100]}, which the job has not got; its {kind} are: {there}.", field="command")


async def listing(call: Call) -> Response:
    status = call.text("status", 20)
    if status is not None and status not in STATUSES:
        raise Invalid(f"`status` must be one of {', '.join(STATUSES)}.", field="status")
    await call.wait("run_history")
    found = await run_history.page(
        call.services.pool, call.home, experiment=call.text("experiment"), status=status, parent=call.text("parent"), tags=call.tags(),
        archived=call.flag("archived") if "archived" in call.query else False, limit=call.limit, cursor=call.cursor,
    )
    return call.page(list(await run_views.shows(call, found.items)), found.next)


async def show(call: Call) -> Response:
    row = await run_views.load_row(call, call.path["run"])
    await call.etag(stream_of(row.run))
    return call.answer(await run_views.show(call, row))


async def update(call: Call) -> Response:
    wanted, run = await call.body(JobUpdate), call.path["run"]
    stream = stream_of(run)
    changes = UpdateRun(
        run=run, display_name=wanted.display_name, description=wanted.description, tags_set=wanted.tags_set,
        tags_removed=tuple(wanted.tags_removed),
    )
    if wanted.archived is None or changes != UpdateRun(run=run, tags_set={}):
        await call.execute(changes, guard=stream)
    if wanted.archived is not None:
        shelve = ArchiveRun(run=run) if wanted.archived else RestoreRun(run=run)
        await call.execute(shelve, part="archive", guard=None if call.position else stream)
    return call.answer(await run_views.show(call, await run_views.load_row(call, run)))


async def cancel(call: Call) -> Response:
    run = call.path["run"]
    await call.execute(CancelRun(run=run), guard=stream_of(run))
    return call.answer(await run_views.show(call, await run_views.load_row(call, run)))


async def log_parameters(call: Call) -> Response:
    wanted = await call.body(Parameters)
    await call.execute(LogParameters(run=call.path["run"], parameters=wanted.parameters))
    return call.done()


def _default_compute(call: Call) -> str:
    compute = call.workspace_state.default_compute if call.workspace_state else None
    if compute is None:
        raise Problem(
            422, "no_compute",
            "The job names no compute and the workspace has no default one; run `foldline compute create`, "
            "or `foldline workspace update --default-compute NAME`.",
        )
    return compute


def _git(wanted: JobCreate) -> dict[str, object]:
    """Git facts without anybody's name or password in the address."""
    facts = wanted.git.model_dump() if wanted.git else {}
    if facts.get("repository"):
        facts["repository"] = re.sub(r"(?<=://)[^/@]*@", "", str(facts["repository"]))
    return facts


def _name(call: Call) -> str:
    return call.workspace_state.name if call.workspace_state else call.path["workspace"]


_ONE = f"{W}/jobs/{{run}}"
ROUTES = (
    Route(method="POST", path=f"{W}/jobs", handler=create, summary="Submit a job", body=JobCreate, answer=RunCreated, status=201),
    Route(method="GET", path=f"{W}/jobs", handler=listing, summary="Runs, newest first", answer=Page[Run],
          query=("experiment", "status", "parent", "archived", "limit", "cursor"), repeated=("tag",)),
    Route(method="GET", path=_ONE, handler=show, summary="One run", answer=Run),
    Route(method="PATCH", path=_ONE, handler=update, summary="Change its texts and tags, archive or restore it", body=JobUpdate,
          answer=Run),
    Route(method="POST", path=f"{_ONE}/cancel", handler=cancel, summary="Ask it to stop", answer=Run, status=202),
    Route(method="POST", path=f"{_ONE}/parameters", handler=log_parameters, summary="Record parameters", body=Parameters, status=204),
)
