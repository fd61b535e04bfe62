"""The files of a run: what was kept of its folders, and what was stored beside."""

from __future__ import annotations

from starlette.responses import Response

from adapters.http import manifests, run_views
from adapters.http.access import W
from adapters.http.blobs import receive_blob
from adapters.http.call import Call
from adapters.http.manifests import File, check_path
from adapters.http.problems import Problem
from adapters.http.routing import Route
from adapters.http.zips import Streamed, archive
from core.errors import NotFound
from core.runs import StoreRunFile
from foldline.wire.jobs import OutputFile
from foldline.wire.shapes import Page
from projections.run_history import RunRow


async def files_of(call: Call, row: RunRow) -> tuple[File, ...]:
    """What the run kept, under what was stored beside it."""
    kept = () if row.outputs is None else await manifests.load(call.services.blobs, call.home, row.outputs, "outputs")
    stored = {path: File(path, str(facts["sha256"]), int(facts["bytes"])) for path, facts in row.files.items()}
    merged = {file.path: file for file in kept} | stored
    return tuple(merged[path] for path in sorted(merged))


async def listing(call: Call) -> Response:
    """Pages by path."""
    row = await run_views.load_row(call, call.path["run"])
    after, limit = call.cursor, call.limit
    files = [file for file in await files_of(call, row) if after is None or file.path > after]
    shown = [OutputFile(path=file.path, bytes=file.bytes, sha256=file.sha256) for file in files[:limit]]
    return call.page(shown, shown[-1].path if len(files) > limit else None)


async def download(call: Call) -> Response:
    path = wanted_path(call)
    row = await run_views.load_row(call, call.path["run"])
    return file_answer(call, await files_of(call, row), path)


async def upload(call: Call) -> Response:
    """Stores a file with the run: its content first, then the event."""
    path = wanted_path(call)
    row = await run_views.newest_row(call, call.path["run"])
    names = {file.path for file in await files_of(call, row)}
    if any(name.startswith(path + "/") or path.startswith(name + "/") for name in names):
        raise Problem(409, "path_taken", "A file cannot be a folder too; choose another path.")
    digest, size, _ = await receive_blob(call, None)
    call.content = digest.encode()
    await call.execute(StoreRunFile(run=row.run, path=path, sha256=digest, bytes=size))
    return call.answer(OutputFile(path=path, bytes=size, sha256=digest))


async def download_archive(call: Call) -> Response:
    row = await run_views.load_row(call, call.path["run"])
    files = await files_of(call, row)
    return Streamed(archive(call.services.blobs, call.home, files), media_type="application/zip", name=f"{row.run}.zip")


def wanted_path(call: Call) -> str:
    """Raises: Problem 422 `bad_path`."""
    given = call.query.get("path")
    if given is None:
        raise manifests.bad_path("Say which file, with `path` in the query.")
    return check_path(given[0])


def file_answer(call: Call, files: tuple[File, ...], path: str) -> Response:
    """One of the files, as an attachment. Raises: NotFound."""
    found = next((file for file in files if file.path == path), None)
    if found is None:
        raise NotFound("file", path)
    chunks = call.services.blobs.open(call.home, found.sha256)
    return Streamed(chunks, media_type="application/octet-stream", name=path.rpartition("/")[2], size=found.bytes)


_ONE = f"{W}/jobs/{{run}}/outputs"
ROUTES = (
    Route(method="GET", path=_ONE, handler=listing, summary="Files of the run", answer=Page[OutputFile], query=("limit", "cursor")),
    Route(method="GET", path=f"{_ONE}/file", handler=download, summary="One file", query=("path",), produces="application/octet-stream"),
    Route(method="PUT", path=f"{_ONE}/file", handler=upload, summary="Store a file with the run", raw="*/*", answer=OutputFile, status=201,
          query=("path",)),
    Route(method="GET", path=f"{_ONE}/archive", handler=download_archive, summary="All files as a zip", produces="application/zip",
          expensive=True),
)
