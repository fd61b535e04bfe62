"""Real-time endpoints and their deployments."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from foldline.answers import plain
from foldline.connection import Connection
from foldline.problems import FoldlineError, ScoringFailed, ServerUnavailable, from_answer
from foldline.resources.collection import Collection, set_fields
from foldline.transfers import Progress, store_folder

if TYPE_CHECKING:
    from foldline.jobfile.deployment import DeploymentPlan
    from foldline.wire.endpoints import Deployment, Endpoint, Keys

DECIDED = frozenset({"succeeded", "failed"})


class OnlineEndpoints(Collection):
    """Endpoints of the workspace."""

    async def create(
        self,
        name: str,
        *,
        auth_mode: str = "key",
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Endpoint:
        body = {**set_fields(name=name, description=description), "auth_mode": auth_mode, "tags": dict(tags or {})}
        return cast("Endpoint", await self._send("POST", "endpoints.Endpoint", "online-endpoints", body=body))

    async def list(self) -> builtins.list[Endpoint]:
        return await self._all("endpoints.Endpoint", "online-endpoints")

    async def get(self, name: str) -> Endpoint:
        return cast("Endpoint", await self._get("endpoints.Endpoint", "online-endpoints", name))

    async def update(self, name: str, *, traffic: Mapping[str, int]) -> Endpoint:
        """Sets which share of the requests each deployment gets, in percent."""
        return cast("Endpoint", await self._send("PATCH", "endpoints.Endpoint", "online-endpoints", name, body={"traffic": dict(traffic)}))

    async def delete(self, name: str) -> None:
        await self._do("DELETE", "online-endpoints", name)

    async def keys(self, name: str) -> Keys:
        return cast("Keys", await self._get("endpoints.Keys", "online-endpoints", name, "keys"))

    async def regenerate_key(self, name: str, key_type: str) -> Keys:
        """Makes a new `primary` or `secondary` key; the old one stops working."""
        body = {"key_type": key_type}
        return cast("Keys", await self._send("POST", "endpoints.Keys", "online-endpoints", name, "keys", "regenerate", body=body))

    async def invoke(self, name: str, data: bytes, *, deployment: str | None = None, content_type: str = "application/json") -> bytes:
        """Scores `data` at the endpoint with its key. Raises: FoldlineError with the endpoint's own answer when that is no success."""
        import httpx2

        endpoint, keys = plain(await self.get(name)), plain(await self.keys(name))
        headers = {"Authorization": f"Bearer {keys['primary_key']}", "Content-Type": content_type}
        if deployment is not None:
            headers["azureml-model-deployment"] = deployment
        async with httpx2.AsyncClient(trust_env=False, timeout=httpx2.Timeout(120.0, connect=5.0)) as client:
            try:
                response = await client.post(endpoint["scoring_uri"], content=data, headers=headers)
            except httpx2.TransportError as error:
                raise ServerUnavailable(f"{endpoint['scoring_uri']} cannot be reached ({error}).", code="endpoint_unreachable") from error
        if response.status_code >= 300:
            raise _scoring_problem(response)
        return bytes(response.content)


class OnlineDeployments(Collection):
    """Deployments of the workspace's endpoints."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        super().__init__(connection, "workspaces", workspace)
        self._workspace = workspace

    async def put(
        self,
        plan: DeploymentPlan,
        *,
        all_traffic: bool = False,
        create_only: bool = False,
        progress: Progress | None = None,
    ) -> Deployment:
        """Creates the deployment, or rolls it to a next revision; its scoring code is sent as a snapshot."""
        from foldline.snapshots import snapshot

        folder = await asyncio.to_thread(snapshot, plan.code)
        body = {**plan.body, "code": await store_folder(self._connection, self._workspace, folder, progress)}
        body |= {"all_traffic": all_traffic, "create_only": create_only}
        answer = await self._send("PUT", "endpoints.Deployment", *_at(plan.endpoint), plan.name, body=body)
        return cast("Deployment", answer)

    async def list(self, endpoint: str) -> builtins.list[Deployment]:
        return await self._all("endpoints.Deployment", *_at(endpoint))

    async def get(self, endpoint: str, name: str) -> Deployment:
        return cast("Deployment", await self._get("endpoints.Deployment", *_at(endpoint), name))

    async def delete(self, endpoint: str, name: str) -> None:
        await self._do("DELETE", *_at(endpoint), name)

    async def logs(self, endpoint: str, name: str, *, lines: int = 100) -> builtins.list[str]:
        answer = await self._connection.call("GET", self._path(*_at(endpoint), name, "logs"), params={"lines": lines})
        return [str(line) for line in answer["lines"]]

    async def wait(self, endpoint: str, name: str, tell: Callable[[Any], None] | None = None) -> Deployment:
        """Returns once the newest revision is decided: `succeeded` or `failed`. `tell` hears every state on the way."""
        while True:
            deployment = await self.get(endpoint, name)
            if tell is not None:
                tell(deployment)
            if deployment.provisioning_state in DECIDED:
                return deployment
            await asyncio.sleep(0.5)


def _at(endpoint: str) -> tuple[str, ...]:
    return ("online-endpoints", endpoint, "deployments")


def _scoring_problem(response: Any) -> FoldlineError:
    try:
        body = response.json()
    except ValueError:
        body = {"detail": response.text[:2000]}
    if not isinstance(body, dict):
        body = {"detail": str(body)[:2000]}
    body.setdefault("detail", body.get("message") or f"The endpoint answered {response.status_code}.")
    if response.status_code == 500:
        return ScoringFailed(str(body["detail"]), code=str(body.get("code") or "scoring_failed"), status=500)
    problem = from_answer(response.status_code, body, request_id=response.headers.get("x-request-id"))
    problem.detail = problem.detail.removesuffix(" Log in with `foldline login URL`.")
    return problem
