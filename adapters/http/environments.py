"""Environments, and how a reference to one becomes what it was at that moment."""

from __future__ import annotations

from starlette.responses import Response

from adapters.http.access import W
from adapters.http.call import Call
from adapters.http.requirements import check_requirements
from adapters.http.routing import Route
from core import environments as core_environments
from core.environments import EnvironmentSpec, EnvironmentVersionRegistered, RegisterEnvironment, stream_of
from core.errors import NotFound
from foldline.wire.jobs import EnvironmentInline, EnvironmentReference
from foldline.wire.models import Environment, EnvironmentCreate
from foldline.wire.shapes import Page
from projections import environments as rows


async def create(call: Call) -> Response:
    wanted = await call.body(EnvironmentCreate)
    done = await call.execute(RegisterEnvironment(
        environment=wanted.name, version=wanted.version, spec=inline_spec(wanted.spec), description=wanted.description,
    ))
    made = next((one.event for one in done.recorded if isinstance(one.event, EnvironmentVersionRegistered)), None)
    version = made.version if made is not None else wanted.version
    return await _shown(call, wanted.name, version)


async def listing(call: Call) -> Response:
    await call.wait("environments")
    found = await rows.page(call.services.pool, call.home, limit=call.limit, cursor=call.cursor)
    return call.page([_of_row(row) for row in found.items], found.next)


async def show(call: Call) -> Response:
    return await _shown(call, call.path["environment"], call.text("version", 64))


async def resolve(call: Call, wanted: EnvironmentInline | EnvironmentReference) -> EnvironmentSpec:
    """What it stands for now, in-flight registrations included. A name and nothing else is a reference. Raises: NotFound."""
    if isinstance(wanted, EnvironmentInline) and wanted.model_fields_set != {"name"}:
        return inline_spec(wanted)
    reference = wanted if isinstance(wanted, EnvironmentReference) else EnvironmentReference(name=wanted.name or "")
    return await _registered(call, reference)


async def _registered(call: Call, wanted: EnvironmentReference) -> EnvironmentSpec:
    state: core_environments.Environment = await call.services.executor.state(call.home, stream_of(wanted.name))
    version = wanted.version or core_environments.latest(state)
    if version is None or version not in state.versions:
        raise NotFound("environment", wanted.name if wanted.version is None else f"{wanted.name}:{wanted.version}")
    return state.versions[version]


def inline_spec(wanted: EnvironmentInline) -> EnvironmentSpec:
    """Raises: Problem 422 for a requirement that we do not take."""
    return EnvironmentSpec(
        name=wanted.name, python=wanted.python, packages=check_requirements(wanted.packages), variables=wanted.variables,
        image=wanted.image,
    )


async def _shown(call: Call, name: str, version: str | None) -> Response:
    await call.wait("environments")
    row = await rows.get(call.services.pool, call.home, name, version)
    if row is None:
        raise NotFound("environment", name if version is None else f"{name}:{version}")
    return call.answer(_of_row(row))


def _of_row(row: rows.EnvironmentRow) -> Environment:
    spec = row.spec
    return Environment(
        name=row.environment, version=row.version, key=row.build_key, python=spec.python, packages=list(spec.packages),
        variables=spec.variables, image=spec.image, description=row.description, created_at=row.created_at, created_by=row.created_by,
    )


ROUTES = (
    Route(method="POST", path=f"{W}/environments", handler=create, summary="Register a version of an environment",
          body=EnvironmentCreate, answer=Environment, status=201),
    Route(method="GET", path=f"{W}/environments", handler=listing, summary="Environments, the latest version of each",
          answer=Page[Environment], query=("limit", "cursor")),
    Route(method="GET", path=f"{W}/environments/{{environment}}", handler=show, summary="One environment",
          answer=Environment, query=("version",)),
)
