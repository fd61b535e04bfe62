"""Real-time endpoints, their keys and deployments."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Literal

from starlette.responses import Response

from adapters.http import environments, manifests
from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.routing import Route
from core import endpoints as core_endpoints
from core import models as core_models
from core.endpoints import (
    CreateEndpoint,
    DeleteDeployment,
    DeleteEndpoint,
    DeploymentSpec,
    RegenerateKey,
    RequestDeployment,
    SetTraffic,
    stream_of,
)
from core.errors import Invalid, NotFound, Refusal, Unavailable
from foldline.wire.endpoints import Deployment, DeploymentPut, Endpoint, EndpointCreate, EndpointUpdate, KeyRegenerate, Keys
from foldline.wire.shapes import Answer, Page
from projections import endpoints as rows
from projections.endpoints import DeploymentView, EndpointRow

KEY_BYTES = 32
TAIL_LINES = 20
LINES_MAX = 10_000


class DeploymentLogs(Answer):
    lines: list[str]


async def create(call: Call) -> Response:
    """Keys go into the vault first; the event names only where they lie."""
    wanted = await call.body(EndpointCreate)
    primary, first_new = await _new_key(call, wanted.name, "primary")
    secondary, second_new = await _new_key(call, wanted.name, "secondary")
    try:
        await call.execute(CreateEndpoint(
            endpoint=wanted.name, description=wanted.description, tags=wanted.tags, primary_key=primary, secondary_key=secondary,
        ))
    except Refusal as refusal:
        if not isinstance(refusal, Unavailable):
            await _drop_keys(call, [reference for reference, new in ((primary, first_new), (secondary, second_new)) if new])
        raise
    return await _shown(call, wanted.name)


async def listing(call: Call) -> Response:
    await call.wait("endpoints")
    found = await rows.page(call.services.pool, call.home, limit=call.limit, cursor=call.cursor)
    return call.page([_of_row(call, row) for row in found.items], found.next)


async def show(call: Call) -> Response:
    await call.etag(stream_of(call.path["endpoint"]))
    return await _shown(call, call.path["endpoint"])


async def update(call: Call) -> Response:
    wanted, name = await call.body(EndpointUpdate), call.path["endpoint"]
    await call.execute(SetTraffic(endpoint=name, traffic=dict(wanted.traffic)), guard=stream_of(name))
    return await _shown(call, name)


async def delete(call: Call) -> Response:
    """Its keys are worthless from here on, so they leave the vault too."""
    name = call.path["endpoint"]
    state = await call.services.executor.state(call.home, stream_of(name))
    done = await call.execute(DeleteEndpoint(endpoint=name), guard=stream_of(name))
    if not done.recorded and not isinstance(state, core_endpoints.Open):
        raise NotFound("endpoint", name)
    if isinstance(state, core_endpoints.Open) and not done.again:  # repeated, it may be another endpoint that has the name by now
        await _drop_keys(call, [state.primary_key, state.secondary_key])
    return call.done()


async def keys(call: Call) -> Response:
    return call.answer(await _keys(call, await _open(call)))


async def regenerate(call: Call) -> Response:
    wanted, name = await call.body(KeyRegenerate), call.path["endpoint"]
    before = await _open(call)
    reference, new = await _new_key(call, name, wanted.key_type)
    worthless = {reference} if new else set()
    try:
        done = await call.execute(RegenerateKey(endpoint=name, which=wanted.key_type, reference=reference), guard=stream_of(name))
        if not done.again:
            worthless.add(before.primary_key if wanted.key_type == "primary" else before.secondary_key)
    except Refusal as refusal:
        if not isinstance(refusal, Unavailable):
            await _drop_keys(call, worthless)
        raise
    now = await _open(call)
    await _drop_keys(call, worthless - {now.primary_key, now.secondary_key})
    return call.answer(await _keys(call, now))


async def put_deployment(call: Call) -> Response:
    """Everything that the revision needs is resolved and checked now, so that it can be made again next year."""
    wanted = await call.body(DeploymentPut)
    name, deployment = call.path["endpoint"], call.path["deployment"]
    state = await _open(call)
    spec = await _spec(call, wanted)
    await call.execute(RequestDeployment(
        endpoint=name, deployment=deployment, spec=spec, all_traffic=wanted.all_traffic, create_only=wanted.create_only,
    ), guard=stream_of(name))
    view = await _deployment(call)
    return call.answer(await _of_view(call, view, name), 200 if deployment in state.deployments else 201)


async def deployments(call: Call) -> Response:
    row = await _row(call, call.path["endpoint"])
    return call.page([await _of_view(call, view, row.endpoint) for _, view in sorted(row.deployments.items())], None)


async def show_deployment(call: Call) -> Response:
    return call.answer(await _of_view(call, await _deployment(call), call.path["endpoint"], tail=True))


async def delete_deployment(call: Call) -> Response:
    name, deployment = call.path["endpoint"], call.path["deployment"]
    state = await _open(call)
    done = await call.execute(DeleteDeployment(endpoint=name, deployment=deployment), guard=stream_of(name))
    if not done.recorded and deployment not in state.deployments:
        raise NotFound("deployment", deployment)
    return call.done()


async def deployment_logs(call: Call) -> Response:
    lines_max = call.number("lines", 100, 1, LINES_MAX) or 100
    view = await _deployment(call)
    lines = await call.services.serving.logs(call.home, call.path["endpoint"], view.name, lines_max)
    return call.answer(DeploymentLogs(lines=list(lines)))


async def _spec(call: Call, wanted: DeploymentPut) -> DeploymentSpec:
    model: core_models.Model = await call.services.executor.state(call.home, core_models.stream_of(wanted.model))
    number = wanted.model_version or max(model.versions, default=None)
    if number is None or number not in model.versions:
        raise NotFound("model version", wanted.model if wanted.model_version is None else f"{wanted.model}:{wanted.model_version}")
    environment = await environments.resolve(call, wanted.environment)
    script = manifests.check_path(wanted.scoring_script)
    code = await manifests.load(call.services.blobs, call.home, wanted.code)
    if all(file.path != script for file in code):
        raise Invalid(f"The code has no file {script!r}.", field="scoring_script")
    return DeploymentSpec(
        model=wanted.model, model_version=number, model_manifest=model.versions[number].manifest, code=wanted.code, scoring_script=script,
        environment=environment, environment_variables=wanted.environment_variables, instance_count=wanted.instance_count,
        request_timeout_ms=wanted.request_timeout_ms,
        max_concurrent_requests_per_instance=wanted.max_concurrent_requests_per_instance,
    )


async def _new_key(call: Call, endpoint: str, which: Literal["primary", "secondary"]) -> tuple[str, bool]:
    """Where the key lies, and whether this very call made it: a repeated request finds the one it made before."""
    reference = f"endpoint/{endpoint}/{which}/{call.derive('endpoint-key')[:16]}"
    vault = call.services.vault
    if await vault.get(call.home, reference) is not None:
        return reference, False
    key = base64.urlsafe_b64encode(call.services.clock.random(KEY_BYTES)).rstrip(b"=")
    await vault.put(call.home, reference, key)
    return reference, True


async def _drop_keys(call: Call, references: Iterable[str]) -> None:
    for reference in references:
        await call.services.vault.delete(call.home, reference)


async def _keys(call: Call, state: core_endpoints.Open) -> Keys:
    found = [await call.services.vault.get(call.home, reference) for reference in (state.primary_key, state.secondary_key)]
    primary, secondary = ((key or b"").decode() for key in found)
    return Keys(primary_key=primary, secondary_key=secondary)


async def _open(call: Call) -> core_endpoints.Open:
    state = await call.services.executor.state(call.home, stream_of(call.path["endpoint"]))
    if not isinstance(state, core_endpoints.Open):
        raise NotFound("endpoint", call.path["endpoint"])
    return state


async def _row(call: Call, name: str) -> EndpointRow:
    await call.wait("endpoints")
    row = await rows.get(call.services.pool, call.home, name)
    if row is None:
        raise NotFound("endpoint", name)
    return row


async def _shown(call: Call, name: str) -> Response:
    return call.answer(_of_row(call, await _row(call, name)))


async def _deployment(call: Call) -> DeploymentView:
    row = await _row(call, call.path["endpoint"])
    view = row.deployments.get(call.path["deployment"])
    if view is None:
        raise NotFound("deployment", call.path["deployment"])
    return view


def _of_row(call: Call, row: EndpointRow) -> Endpoint:
    workspace = call.workspace_state.name if call.workspace_state else ""
    return Endpoint(
        name=row.endpoint, scoring_uri=call.services.gateway.scoring_uri(workspace, row.endpoint), auth_mode="key",
        description=row.description, tags=row.tags, traffic=row.traffic,
        deployments=[_plain(view, row.endpoint) for _, view in sorted(row.deployments.items())], provisioning_state=row.state,
        created_at=row.created_at, created_by=row.created_by,
    )


async def _of_view(call: Call, view: DeploymentView, endpoint: str, *, tail: bool = False) -> Deployment:
    """With the end of its log, where it is asked for or where it tells why the deployment failed."""
    shown = _plain(view, endpoint)
    if tail or view.state == "failed":
        shown.log_tail = list(await call.services.serving.logs(call.home, endpoint, view.name, TAIL_LINES))
    return shown


def _plain(view: DeploymentView, endpoint: str) -> Deployment:
    revision = view.shown
    return Deployment(
        name=view.name, endpoint=endpoint, provisioning_state=view.state, revision=revision.number, model=revision.spec.model,
        model_version=revision.spec.model_version, scoring_script=revision.spec.scoring_script,
        instance_count=revision.spec.instance_count, replicas_ready=len(revision.replicas), target=revision.spec.target,
        message=view.message, created_at=view.created_at,
    )


_ONE = f"{W}/online-endpoints/{{endpoint}}"
_DEPLOYMENT = f"{_ONE}/deployments/{{deployment}}"
ROUTES = (
    Route(method="POST", path=f"{W}/online-endpoints", handler=create, summary="Make an endpoint", body=EndpointCreate, answer=Endpoint,
          status=201),
    Route(method="GET", path=f"{W}/online-endpoints", handler=listing, summary="Endpoints", answer=Page[Endpoint],
          query=("limit", "cursor")),
    Route(method="GET", path=_ONE, handler=show, summary="One endpoint", answer=Endpoint),
    Route(method="PATCH", path=_ONE, handler=update, summary="Share its traffic out", body=EndpointUpdate, answer=Endpoint),
    Route(method="DELETE", path=_ONE, handler=delete, summary="Delete it with its deployments", status=204),
    Route(method="GET", path=f"{_ONE}/keys", handler=keys, summary="Its keys", answer=Keys),
    Route(method="POST", path=f"{_ONE}/keys/regenerate", handler=regenerate, summary="Replace one of its keys", body=KeyRegenerate,
          answer=Keys),
    Route(method="GET", path=f"{_ONE}/deployments", handler=deployments, summary="Its deployments", answer=Page[Deployment]),
    Route(method="PUT", path=_DEPLOYMENT, handler=put_deployment, summary="Make a deployment, or its next revision", body=DeploymentPut,
          answer=Deployment, status=201),
    Route(method="GET", path=_DEPLOYMENT, handler=show_deployment, summary="One deployment", answer=Deployment),
    Route(method="DELETE", path=_DEPLOYMENT, handler=delete_deployment, summary="Delete it; refused while it gets traffic", status=204),
    Route(method="GET", path=f"{_DEPLOYMENT}/logs", handler=deployment_logs, summary="The end of its workers' logs", answer=DeploymentLogs,
          query=("lines",)),
)
