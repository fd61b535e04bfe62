"""A realistic past: workspaces whose people submit runs, register models and serve them, decided by the real core.

`commands(...)` yields what to execute, in an order in which each is granted; nothing here touches a log.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.computes import CreateCompute, ScaleCluster
from core.endpoints import (
    CreateEndpoint,
    DeploymentSpec,
    ReportReplicaReady,
    RequestDeployment,
    SetTraffic,
)
from core.environments import EnvironmentSpec, RegisterEnvironment
from core.ids import SYSTEM, ActorId, WorkspaceId
from core.models import RegisterModel, UpdateModelVersion
from core.nodes import JoinNode, NodeFacts, RequestNode
from core.runs import (
    GitFacts,
    JobInput,
    JobSpec,
    LogParameters,
    PlaceRun,
    ReportEnded,
    ReportScriptExited,
    ReportStarted,
    SourceEnd,
    StoreRunFile,
    SubmitRun,
    UpdateRun,
)
from core.users import CreateToken, CreateUser
from core.workspaces import AddMember, CreateWorkspace, ReserveWorkspaceName

PACKAGES = ("scikit-learn==1.5.2", "numpy==2.1.3", "pandas==2.2.3", "matplotlib==3.9.2")


@dataclass(frozen=True, slots=True)
class Wish:
    workspace: WorkspaceId
    actor: ActorId
    command: Any


def setting(workspace: WorkspaceId, people: int, nodes: int) -> Iterator[Wish]:
    """A workspace with its people, a compute and its nodes, an environment."""
    owner = ActorId(f"user/u-{workspace}-0")
    for number in range(people):
        user = f"u-{workspace}-{number}"
        yield Wish(SYSTEM, ActorId("system"), CreateUser(user=user))
        yield Wish(SYSTEM, ActorId("system"), CreateToken(user=user, token=f"t-{number}", sha256=f"{number:064x}"))
    yield Wish(SYSTEM, owner, ReserveWorkspaceName(name=workspace, workspace=workspace))
    yield Wish(workspace, owner, CreateWorkspace(workspace=workspace, name=workspace, owner=f"u-{workspace}-0"))
    for number in range(1, people):
        yield Wish(workspace, owner, AddMember(workspace=workspace, user=f"u-{workspace}-{number}", role="contributor"))
    yield Wish(workspace, owner, CreateCompute(workspace=workspace, compute="cpu", max_nodes=nodes, slots_per_node=64))
    spec = EnvironmentSpec(name="sklearn", version="1", python="3.11", packages=PACKAGES)
    yield Wish(workspace, owner, RegisterEnvironment(environment="sklearn", version="1", spec=spec))
    yield Wish(workspace, ActorId("actor/autoscaler"), ScaleCluster(compute="cpu", wanted=nodes, reason="slots wait and 0 are free"))
    facts = NodeFacts(
        hostname="worker", cores=8, memory_bytes=32 << 30, python="3.11.9", platform="Linux-6.1-x86_64", agent="0.1.0",
        sandbox="bubblewrap",
    )
    for number in range(nodes):
        node = f"cpu-{number:06x}"
        wanted = RequestNode(node=node, compute="cpu", provider="local", slots=64, reason="runs wait")
        yield Wish(workspace, ActorId("actor/nodes"), wanted)
        yield Wish(workspace, ActorId(f"node/{node}"), JoinNode(node=node, compute="cpu", slots=64, facts=facts))


def life(workspace: WorkspaceId, number: int, people: int, nodes: int) -> Iterator[Wish]:
    """One run from its submission to its end, about ten events; each twentieth becomes a model, each hundredth is served."""
    chance = random.Random(f"{workspace}/{number}")
    run, node = f"amber-otter-{number:06x}", f"cpu-{number % nodes:06x}"
    user, agent, own = ActorId(f"user/u-{workspace}-{number % people}"), ActorId(f"node/{node}"), ActorId(f"run/{run}")
    rate = round(10 ** chance.uniform(-4, -1), 6)
    yield Wish(workspace, user, SubmitRun(
        run=run, experiment=f"digits-{number % 20}", compute="cpu", job=_job(rate), snapshot=f"{number:064x}", code_path="src",
        display_name=f"digits at {rate}", tags={"team": "vision", "seed": str(number % 7)},
        git=GitFacts(repository="https://git.example/team/digits", branch="main", commit=f"{number:040x}", dirty=False),
    ))
    yield Wish(workspace, ActorId("actor/scheduler"), PlaceRun(run=run, node=node, reason="first in the queue of cpu; 64 slots were free"))
    yield Wish(workspace, agent, ReportStarted(
        run=run, attempt=1, environment_key="e" * 64, environment_lock="1" * 64, sandbox="bubblewrap", preparing_seconds=0.412,
    ))
    yield Wish(workspace, own, LogParameters(run=run, parameters={"lr": str(rate), "epochs": "20", "optimizer": "adam"}))
    yield Wish(workspace, own, StoreRunFile(run=run, path="curves.png", sha256=f"{number:064x}", bytes=18_211))
    failed = chance.random() < 0.1
    yield Wish(workspace, agent, ReportScriptExited(run=run, attempt=1, exit_code=int(failed)))
    yield Wish(workspace, agent, ReportEnded(
        run=run, attempt=1, outcome="failed" if failed else "completed", reason="exit_code" if failed else "succeeded",
        message="The script ended with exit code 1." if failed else "The script ended well.", exit_code=int(failed), outputs="2" * 64,
        output_files=3, output_bytes=1_204_133, sources=(SourceEnd(source=f"1/{run}", last_sequence=12, digest="3" * 64),),
    ))
    if number % 4 == 0:
        yield Wish(workspace, user, UpdateRun(run=run, tags_set={"looked_at": "yes"}))
    if number % 20 == 0:
        yield from _model(workspace, number, user, run)


def _model(workspace: WorkspaceId, number: int, user: ActorId, run: str) -> Iterator[Wish]:
    yield Wish(workspace, user, RegisterModel(
        model=f"digits-{number % 3}", manifest="4" * 64, files=2, bytes=90_112, tags={"stage": "candidate"}, source_run=run,
        source_path="outputs/model",
    ))
    if number % 100 == 0:
        endpoint = f"digits-{number // 100}"
        yield Wish(workspace, user, UpdateModelVersion(model="digits-0", version=1, tags_set={"served": str(number)}))
        yield Wish(workspace, user, CreateEndpoint(endpoint=endpoint, tags={}, primary_key="k/p/1", secondary_key="k/s/1"))
        spec = DeploymentSpec(
            model="digits-0", model_version=1, model_manifest="4" * 64, code="5" * 64, scoring_script="score.py",
            environment=EnvironmentSpec(packages=PACKAGES),
        )
        yield Wish(workspace, user, RequestDeployment(endpoint=endpoint, deployment="blue", spec=spec))
        ready = ReportReplicaReady(endpoint=endpoint, deployment="blue", revision=1, replica=f"{endpoint}-blue-1-0")
        yield Wish(workspace, ActorId("actor/deployer"), ready)
        yield Wish(workspace, user, SetTraffic(endpoint=endpoint, traffic={"blue": 100}))


def _job(rate: float) -> JobSpec:
    return JobSpec(
        command="python train.py --lr ${{inputs.lr}} --epochs ${{inputs.epochs}} --data ${{inputs.data}}",
        inputs={"lr": JobInput(literal=rate), "epochs": JobInput(literal=20), "data": JobInput(literal="builtin")},
        environment=EnvironmentSpec(name="sklearn", version="1", python="3.11", packages=PACKAGES),
        environment_variables={"OMP_NUM_THREADS": "1"},
    )
