"""The model registry: versions of one or many files, from a run or from outside."""

from __future__ import annotations

from starlette.responses import Response

from adapters.http import manifests, run_views
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.manifests import File
from adapters.http.outputs import file_answer, files_of, wanted_path
from adapters.http.routing import Route
from adapters.http.zips import Streamed, archive
from core import models as core_models
from core.errors import Invalid, NotFound
from core.models import DeleteModelVersion, ModelVersionRegistered, RegisterModel, UpdateModelVersion, stream_of
from foldline.wire.jobs import OutputFile
from foldline.wire.models import Model, ModelCreate, ModelUpdate, ModelVersion
from foldline.wire.shapes import Page
from projections import model_registry as rows
from projections.model_registry import ModelVersionRow, ModelView

VERSION_MAX = 2**31 - 1


async def create(call: Call) -> Response:
    """The next version. From a run, its files are picked out of what the run kept, and nothing is copied."""
    wanted = await call.body(ModelCreate)
    manifest, files = await _picked(call, wanted)
    if not files:
        raise Invalid("A model has at least one file.", field="path" if wanted.run else "manifest")
    done = await call.execute(RegisterModel(
        model=wanted.name, version=wanted.version, manifest=manifest, files=len(files), bytes=sum(file.bytes for file in files),
        format=wanted.type, description=wanted.description, tags=wanted.tags, source_run=wanted.run,
        source_path=_source_path(wanted) if wanted.run else None,
    ))
    made = next((one.event for one in done.recorded if isinstance(one.event, ModelVersionRegistered)), None)
    return await _shown(call, wanted.name, made.version if made is not None else wanted.version)


async def _picked(call: Call, wanted: ModelCreate) -> tuple[str, tuple[File, ...]]:
    blobs, home = call.services.blobs, call.home
    if (wanted.manifest is None) == (wanted.run is None):
        raise Invalid("Name either `manifest` or `run`, and only one of them.", field="manifest")
    if wanted.manifest is not None:
        return wanted.manifest, await manifests.load(blobs, home, wanted.manifest)
    row = await run_views.newest_row(call, str(wanted.run))
    path = _source_path(wanted)
    files = manifests.under(await files_of(call, row), path)
    if not files:
        raise NotFound("file or folder", f"{wanted.run}:{path}")
    return await manifests.store(blobs, home, files), files


def _source_path(wanted: ModelCreate) -> str:
    return manifests.check_path((wanted.path or "outputs").removeprefix("./").rstrip("/"))


async def listing(call: Call) -> Response:
    await call.wait("model_registry")
    found = await rows.models(
        call.services.pool, call.home, name=call.text("name"), tags=call.tags(), limit=call.limit, cursor=call.cursor,
    )
    return call.page([_of_view(view) for view in found.items], found.next)


async def show(call: Call) -> Response:
    await call.wait("model_registry")
    view = await rows.model(call.services.pool, call.home, call.path["model"])
    if view is None:
        raise NotFound("model", call.path["model"])
    return call.answer(_of_view(view))


async def versions(call: Call) -> Response:
    await call.wait("model_registry")
    name = call.path["model"]
    found = await rows.versions(call.services.pool, call.home, name, tags=call.tags(), limit=call.limit, cursor=call.cursor)
    if not found.items and await rows.model(call.services.pool, call.home, name) is None:
        raise NotFound("model", name)
    return call.page([_of_row(row) for row in found.items], found.next)


async def show_version(call: Call) -> Response:
    await call.etag(stream_of(call.path["model"]))
    return call.answer(_of_row(await _row(call)))


async def update(call: Call) -> Response:
    wanted, name = await call.body(ModelUpdate), call.path["model"]
    version = await _number(call)
    await call.execute(UpdateModelVersion(
        model=name, version=version, description=wanted.description, tags_set=wanted.tags_set, tags_removed=tuple(wanted.tags_removed),
    ), guard=stream_of(name))
    return await _shown(call, name, version)


async def delete(call: Call) -> Response:
    name = call.path["model"]
    await call.execute(DeleteModelVersion(model=name, version=await _number(call)), guard=stream_of(name))
    return call.done()


async def files(call: Call) -> Response:
    found = await manifests.load(call.services.blobs, call.home, (await _row(call)).manifest, "model files")
    after, limit = call.cursor, call.limit
    rest = [file for file in found if after is None or file.path > after]
    shown = [OutputFile(path=file.path, bytes=file.bytes, sha256=file.sha256) for file in rest[:limit]]
    return call.page(shown, shown[-1].path if len(rest) > limit else None)


async def download(call: Call) -> Response:
    path = wanted_path(call)
    found = await manifests.load(call.services.blobs, call.home, (await _row(call)).manifest, "model files")
    return file_answer(call, found, path)


async def download_archive(call: Call) -> Response:
    row = await _row(call)
    found = await manifests.load(call.services.blobs, call.home, row.manifest, "model files")
    chunks = archive(call.services.blobs, call.home, found)
    return Streamed(chunks, media_type="application/zip", name=f"{row.model}-{row.version}.zip")


async def _number(call: Call) -> int:
    """The version that the path names; `latest` is the highest that is there, in-flight changes included."""
    text = call.path["version"]
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= VERSION_MAX:
        return int(text)
    if text != "latest":
        raise NotFound("model version", f"{call.path['model']}:{text}")
    state: core_models.Model = await call.services.executor.state(call.home, stream_of(call.path["model"]))
    if not state.versions:
        raise NotFound("model", call.path["model"])
    return max(state.versions)


async def _row(call: Call) -> ModelVersionRow:
    number = await _number(call)
    await call.wait("model_registry")
    row = await rows.version(call.services.pool, call.home, call.path["model"], number)
    if row is None:
        raise NotFound("model version", f"{call.path['model']}:{call.path['version']}")
    return row


async def _shown(call: Call, name: str, version: int | None) -> Response:
    await call.wait("model_registry")
    row = await rows.version(call.services.pool, call.home, name, version)
    if row is None:
        raise NotFound("model version", f"{name}:{version}")
    return call.answer(_of_row(row))


def _of_row(row: ModelVersionRow) -> ModelVersion:
    return ModelVersion(
        name=row.model, version=row.version, type=row.format, description=row.description, tags=row.tags, files=row.files, bytes=row.bytes,
        manifest=row.manifest, source_run=row.source_run, source_path=row.source_path, deployments=row.deployments,
        created_at=row.created_at, created_by=row.created_by,
    )


def _of_view(view: ModelView) -> Model:
    return Model(
        name=view.model, latest_version=view.latest_version, versions=view.versions, tags=view.tags, created_at=view.created_at,
        updated_at=view.updated_at,
    )


_MODEL = f"{W}/models/{{model}}"
_ONE = f"{_MODEL}/versions/{{version}}"
ROUTES = (
    Route(method="POST", path=f"{W}/models", handler=create, summary="Register the next version of a model", body=ModelCreate,
          answer=ModelVersion, status=201),
    Route(method="GET", path=f"{W}/models", handler=listing, summary="Models", answer=Page[Model], query=("name", "limit", "cursor"),
          repeated=("tag",)),
    Route(method="GET", path=_MODEL, handler=show, summary="One model", answer=Model),
    Route(method="GET", path=f"{_MODEL}/versions", handler=versions, summary="Its versions, newest first", answer=Page[ModelVersion],
          query=("limit", "cursor"), repeated=("tag",)),
    Route(method="GET", path=_ONE, handler=show_version, summary="One version; `latest` is the newest", answer=ModelVersion),
    Route(method="PATCH", path=_ONE, handler=update, summary="Change its tags or description", body=ModelUpdate, answer=ModelVersion),
    Route(method="DELETE", path=_ONE, handler=delete, summary="Delete it; refused while it is deployed", status=204),
    Route(method="GET", path=f"{_ONE}/files", handler=files, summary="Its files", answer=Page[OutputFile], query=("limit", "cursor")),
    Route(method="GET", path=f"{_ONE}/files/content", handler=download, summary="One of its files", query=("path",),
          produces="application/octet-stream"),
    Route(method="GET", path=f"{_ONE}/archive", handler=download_archive, summary="All its files as a zip", produces="application/zip",
          expensive=True),
)
