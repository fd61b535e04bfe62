"""Folders as manifests of files that were uploaded before."""

from __future__ import annotations

import anyio.to_thread
from starlette.responses import Response

from adapters.http import manifests
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.routing import Route
from adapters.http.zips import Streamed, archive
from foldline.wire.files import Manifest, ManifestStored

MANIFEST_JSON_BYTES_MAX = 40 * 1024 * 1024


async def create(call: Call) -> Response:
    """Refused while a file of it is missing. The same content is the same folder, whoever sends it."""
    files = await manifests.of_body(await call.read(MANIFEST_JSON_BYTES_MAX))
    digest = await manifests.store(call.services.blobs, call.home, files)
    return call.answer(ManifestStored(digest=digest, files=len(files), bytes=sum(file.bytes for file in files)))


async def show(call: Call) -> Response:
    files = await manifests.load(call.services.blobs, call.home, call.path["digest"])
    content = await anyio.to_thread.run_sync(manifests.to_body, files)
    return Response(content, headers=call.extra_headers(), media_type="application/json")


async def download_archive(call: Call) -> Response:
    digest = call.path["digest"]
    files = await manifests.load(call.services.blobs, call.home, digest)
    return Streamed(archive(call.services.blobs, call.home, files), media_type="application/zip", name=f"snapshot-{digest[:12]}.zip")


ROUTES = (
    Route(method="POST", path=f"{W}/snapshots", handler=create, summary="Store a folder", body=Manifest, answer=ManifestStored, status=201),
    Route(method="GET", path=f"{W}/snapshots/{{digest}}", handler=show, summary="A folder's files", answer=Manifest),
    Route(method="GET", path=f"{W}/snapshots/{{digest}}/archive", handler=download_archive, summary="A folder as a zip",
          produces="application/zip", expensive=True),
)
