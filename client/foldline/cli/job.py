"""`foldline job`: submit, list, follow, compare, download, cancel."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from foldline.answers import plain
from foldline.cli.options import COMMON, Common, File, Flag, Name, NoWait, OptionalName, Overrides, Tags, pairs
from foldline.cli.output import Columns, show, wants_table
from foldline.cli.progress import bar
from foldline.cli.session import note, warn, workspace

if TYPE_CHECKING:
    from foldline.resources.runs import Run

app = App(name="job", help="Submit jobs; list, follow, compare, download and cancel runs.")


def _seconds(run: dict[str, Any]) -> str:
    seconds = run.get("duration_seconds")
    return f"{seconds:.1f} s" if isinstance(seconds, int | float) else "-"


LIST: Columns = {
    "name": "name",
    "experiment": "experiment_name",
    "status": "status",
    "took": _seconds,
    "compute": "compute",
    "node": lambda run: run.get("node") or "-",
    "submitted": lambda run: str(run.get("submitted_at", ""))[:19].replace("T", " "),
    "by": "submitted_by",
}
METRICS: Columns = {"metric": "key", "last": "last", "min": "min", "max": "max", "last step": "last_step", "points": "count"}
OUTPUTS: Columns = {"path": "path", "bytes": "bytes", "sha256": lambda file: str(file["sha256"])[:16]}
STORY: Columns = {
    "#": "sequence",
    "at": lambda line: str(line["at"])[:23].replace("T", " "),
    "what": "summary",
    "who": lambda line: line.get("actor_name") or line["actor"],
    "because of": lambda line: line.get("because") or "-",
}


@app.command
async def create(
    file: File,
    *,
    set_: Overrides = (),
    name: OptionalName = None,
    stream: Annotated[bool, Flag] = False,
    no_wait: NoWait = False,
    common: Common = COMMON,
) -> int:
    """Submit a job file of the Azure ML CLI v2; --stream follows it to its end."""
    from foldline.jobfile import plan_of

    plan = await asyncio.to_thread(plan_of, file, set_, name)
    warn(plan.warnings)
    async with workspace(common) as place:
        with bar("Uploading code") as progress:
            run = await place.jobs.submit_plan(plan, progress=progress)
        if stream and not no_wait:
            note(f"Run {run.name} in experiment {plan.job.experiment_name}: {run.link}")
            code = await _follow(run)
            if not wants_table(common):
                show(run.answer, common)
            return code
        _show_run(run, common)
        return 0


@app.command(name="list")
async def list_(
    *,
    experiment: Annotated[str | None, Parameter(name=["--experiment-name", "--experiment"])] = None,
    status: str | None = None,
    parent: Annotated[str | None, Parameter(name=["--parent-job-name", "--parent"])] = None,
    tag: Tags = (),
    archived: Annotated[bool, Parameter(name=["--archived-only", "--archived"], negative="")] = False,
    limit: Annotated[int, Parameter(name=["--max-results", "--limit"])] = 100,
    common: Common = COMMON,
) -> None:
    """List runs, the newest first."""
    async with workspace(common) as place:
        runs = await place.jobs.list(
            experiment=experiment,
            status=status,
            parent=parent,
            tags=pairs(tag),
            archived=archived or None,
            limit=limit,
        )
        show([run.answer for run in runs], common, LIST)


@app.command(name="show")
async def show_(name: Name, *, common: Common = COMMON) -> None:
    """Show a run: its state and why, parameters, last metrics, files, where it came from."""
    async with workspace(common) as place:
        show((await place.jobs.get(name)).answer, common)


@app.command
async def stream(name: Name, *, common: Common = COMMON) -> int:
    """Follow a run's states and log to its end. Ctrl-C ends the stream, never the run."""
    async with workspace(common) as place:
        return await _follow(await place.jobs.get(name))


@app.command
async def logs(
    name: Name,
    *,
    file: Annotated[str | None, Parameter(name="--log-name", help="Which log; the script's own unless told.")] = None,
    attempt: int | None = None,
    common: Common = COMMON,
) -> None:
    """Print what is in a run's log now."""
    from foldline.resources.runs import USER_LOG

    async with workspace(common) as place:
        async for piece in (await place.jobs.get(name)).log_bytes(name=file or USER_LOG, attempt=attempt):
            sys.stdout.buffer.write(piece)
    sys.stdout.flush()


@app.command
async def metrics(name: Name, *, common: Common = COMMON) -> None:
    """Last, least and greatest value of each metric of a run."""
    async with workspace(common) as place:
        show(await (await place.jobs.get(name)).metrics(), common, METRICS)


@app.command
async def outputs(name: Name, *, common: Common = COMMON) -> None:
    """List the files that are kept with a run."""
    async with workspace(common) as place:
        show(await (await place.jobs.get(name)).outputs(), common, OUTPUTS)


@app.command
async def download(
    name: Name,
    *,
    download_path: Annotated[Path | None, Parameter(name=["--download-path", "-p"])] = None,
    below: Annotated[str, Parameter(name=["--output-name", "--below"], help="Only this output, file or folder.")] = "",
    common: Common = COMMON,
) -> None:
    """Download a run's files, each checked by its hash, into --download-path (else a folder named after the run)."""
    target = download_path or Path(name)
    async with workspace(common) as place:
        run = await place.jobs.get(name)
        with bar("Downloading") as progress:
            files = await run.download(target, below=below, progress=progress)
    note(f"{len(files)} files downloaded to {target}.")


@app.command
async def cancel(name: Name, *, common: Common = COMMON) -> None:
    """Stop a run; its script gets its grace first."""
    async with workspace(common) as place:
        _show_run(await place.jobs.cancel(name), common)


@app.command
async def archive(name: Name, *, common: Common = COMMON) -> None:
    """Leave a run out of lists."""
    async with workspace(common) as place:
        _show_run(await place.jobs.archive(name), common)


@app.command
async def restore(name: Name, *, common: Common = COMMON) -> None:
    """Bring an archived run back into lists."""
    async with workspace(common) as place:
        _show_run(await place.jobs.restore(name), common)


@app.command
async def update(
    name: Name,
    *,
    display_name: str | None = None,
    description: str | None = None,
    tag: Tags = (),
    remove_tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    common: Common = COMMON,
) -> None:
    """Change a run's display name, description or tags."""
    change: dict[str, Any] = {"tags_set": pairs(tag), "tags_removed": list(remove_tag)}
    change |= {key: value for key, value in (("display_name", display_name), ("description", description)) if value is not None}
    async with workspace(common) as place:
        run = await (await place.jobs.get(name)).update(change)
        _show_run(run, common)


@app.command
async def story(name: Name, *, common: Common = COMMON) -> None:
    """What happened to a run, in order: what, when, who, because of what."""
    async with workspace(common) as place:
        show(await (await place.jobs.get(name)).story(), common, STORY)


@app.command
async def compare(
    *names: str,
    metric: Annotated[tuple[str, ...], Parameter(negative="", help="Which curves. May be given often.")] = (),
    png: Annotated[Path | None, Parameter(help="Write the curves to this PNG file.")] = None,
    attach: Annotated[bool, Parameter(negative="", help="Keep the PNG with the first run.")] = False,
    common: Common = COMMON,
) -> None:
    """Compare runs: parameters and last metrics side by side, curves in the terminal and as a PNG."""
    from foldline.cli.comparing import compare_runs

    async with workspace(common) as place:
        await compare_runs(place, names, metric, png, attach=attach, common=common)


async def _follow(run: Run) -> int:
    from foldline.cli.stream import follow_to_end

    return await follow_to_end(run)


def _show_run(run: Run, common: Common) -> None:
    if not wants_table(common):
        show(run.answer, common)
        return
    answer = plain(run.answer)
    sys.stdout.write(f"{answer['name']}  {answer['status']}  {answer['why']}\n{run.link}\n")
