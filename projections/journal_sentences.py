"""Each event in one sentence of plain words, for somebody who sees Foldline for the first time. Pure text, no look-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.computes import ClusterScaled, ComputeCreated, ComputeDeleted, ComputeUpdated
from core.endpoints import (
    DeploymentDeleted,
    DeploymentFailed,
    DeploymentReady,
    DeploymentRequested,
    EndpointCreated,
    EndpointDeleted,
    EndpointKeyRegenerated,
    ReplicaLost,
    ReplicaReady,
    TrafficSet,
)
from core.environments import EnvironmentVersionRegistered
from core.events import Event
from core.experiments import ExperimentArchived, ExperimentCreated, ExperimentRestored
from core.models import ModelVersionDeleted, ModelVersionRegistered, ModelVersionReleased, ModelVersionUpdated, ModelVersionUsed
from core.nodes import NodeGone, NodeJoined, NodeReachable, NodeReleaseRequested, NodeRequested, NodeUnreachable, SlotFreed, SlotTaken
from core.runs import (
    RunArchived,
    RunCancelRequested,
    RunEnded,
    RunFileStored,
    RunLateReported,
    RunParametersLogged,
    RunPlaced,
    RunPreempted,
    RunReachable,
    RunRequeued,
    RunRestored,
    RunScriptExited,
    RunStarted,
    RunSubmitted,
    RunUnreachable,
    RunUpdated,
)
from core.users import (
    JoinTokenCreated,
    JoinTokenUsed,
    TokenCreated,
    TokenRevoked,
    UserCreated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
)
from core.workspaces import (
    MemberAdded,
    MemberRemoved,
    WorkspaceCreated,
    WorkspaceDeleted,
    WorkspaceNameReleased,
    WorkspaceNameReserved,
    WorkspaceUpdated,
)


def summary(event: Event) -> str:
    """What happened, in one sentence."""
    sentence = SENTENCES.get(type(event))
    return sentence(event) if sentence is not None else f"{event.type.replace('-', ' ').capitalize()}."


SENTENCES: dict[type[Event], Callable[[Any], str]] = {
    WorkspaceNameReserved: lambda e: f"The name {e.name} was reserved for a new workspace.",
    WorkspaceNameReleased: lambda e: f"The name {e.name} is free again.",
    WorkspaceCreated: lambda e: f"The workspace {e.name} was created.",
    WorkspaceUpdated: lambda e: f"The workspace's {_fields(e, 'display_name', 'description', 'default_compute')} changed.",
    MemberAdded: lambda e: f"{e.user} may use the workspace as {e.role}.",
    MemberRemoved: lambda e: f"{e.user} may not use the workspace any more.",
    WorkspaceDeleted: lambda e: "The workspace was deleted; its events stay.",
    UserCreated: lambda e: f"{'An administrator' if e.admin else 'A user'} was created: {e.user}.",
    UserDisabled: lambda e: f"{e.user} was disabled: no token of theirs opens anything.",
    UserEnabled: lambda e: f"{e.user} was enabled again.",
    UserDeleted: lambda e: f"{e.user} was deleted; name and mail are erased.",
    TokenCreated: lambda e: f"{e.user} got a token{_until(e)}.",
    TokenRevoked: lambda e: f"A token of {e.user} was revoked.",
    JoinTokenCreated: lambda e: f"One machine may join the compute {e.compute}{_until(e)}.",
    JoinTokenUsed: lambda e: f"A machine used its join token and became the node {e.node}.",
    ComputeCreated: lambda e: f"The compute {e.compute} was created, with {e.min_nodes} to {e.max_nodes} nodes.",
    ComputeUpdated: lambda e: f"The limits of the compute {e.compute} changed: {_changes(e, 'min_nodes', 'max_nodes', 'idle_seconds')}.",
    ClusterScaled: lambda e: f"The compute {e.compute} wants {_count(e.wanted, 'node')} instead of {e.before}: {e.reason}.",
    ComputeDeleted: lambda e: f"The compute {e.compute} was deleted; its nodes go.",
    NodeRequested: lambda e: f"The compute {e.compute} asked for the node {e.node}: {e.reason}.",
    NodeJoined: lambda e: f"The node {e.node} is there and takes work ({_count(e.slots, 'slot')}).",
    NodeUnreachable: lambda e: f"Nothing was heard of the node {e.node} for {e.silent_seconds:.0f} s; its work may go on.",
    NodeReachable: lambda e: f"The node {e.node} is heard of again.",
    NodeReleaseRequested: lambda e: f"The node {e.node} takes no more work and goes: {e.reason}.",
    NodeGone: lambda e: f"The node {e.node} is gone: {e.reason}.",
    SlotTaken: lambda e: f"The run {e.run} (attempt {e.attempt}) holds {_count(e.slots, 'slot')} of the node {e.node}.",
    SlotFreed: lambda e: f"The run {e.run} needs the node {e.node} no more.",
    EnvironmentVersionRegistered: lambda e: f"Version {e.version} of the environment {e.environment} was registered.",
    ExperimentCreated: lambda e: f"The experiment {e.experiment} was created, since a run named it.",
    ExperimentArchived: lambda e: f"The experiment {e.experiment} was archived.",
    ExperimentRestored: lambda e: f"The experiment {e.experiment} was taken out of the archive.",
    RunSubmitted: lambda e: f"The run {e.run} was submitted to the compute {e.compute}, in the experiment {e.experiment}.",
    RunPlaced: lambda e: f"The run {e.run} was given to the node {e.node} (attempt {e.attempt}): {e.reason}.",
    RunStarted: lambda e: f"The script of {e.run} runs; its environment was {_made(e)}.",
    RunScriptExited: lambda e: f"The script of {e.run} ended with {_exit(e.exit_code)}; its outputs are being stored.",
    RunCancelRequested: lambda e: f"Somebody asked to cancel {e.run}.",
    RunPreempted: lambda e: f"The run {e.run} has to make room: {e.reason}.",
    RunUnreachable: lambda e: f"Nothing was heard of the run {e.run} for {e.silent_seconds:.0f} s; its script may go on.",
    RunReachable: lambda e: f"The run {e.run} is heard of again.",
    RunRequeued: lambda e: f"The run {e.run} waits for another attempt: {e.message}",
    RunEnded: lambda e: f"The run {e.run} {_outcome(e)}: {e.message}",
    RunLateReported: lambda e: f"Something of {e.run} came after its end and was kept: {e.message}",
    RunParametersLogged: lambda e: f"The script of {e.run} named its parameters: {_listed(e.parameters)}.",
    RunFileStored: lambda e: f"The file {e.path} was stored with the run {e.run}.",
    RunUpdated: lambda e: f"The run's {_fields(e, 'display_name', 'description', 'tags_set', 'tags_removed')} changed.",
    RunArchived: lambda e: f"The run {e.run} was archived.",
    RunRestored: lambda e: f"The run {e.run} was taken out of the archive.",
    ModelVersionRegistered: lambda e: f"Version {e.version} of the model {e.model} was registered{_source(e)}.",
    ModelVersionUpdated: lambda e: f"Version {e.version} of {e.model}: {_fields(e, 'description', 'tags_set', 'tags_removed')} changed.",
    ModelVersionUsed: lambda e: f"Version {e.version} of {e.model} is in use by {e.endpoint}/{e.deployment}.",
    ModelVersionReleased: lambda e: f"Version {e.version} of {e.model} is no longer used by {e.endpoint}/{e.deployment}.",
    ModelVersionDeleted: lambda e: f"Version {e.version} of the model {e.model} was deleted.",
    EndpointCreated: lambda e: f"The endpoint {e.endpoint} was created.",
    EndpointKeyRegenerated: lambda e: f"The {e.which} key of the endpoint {e.endpoint} was replaced.",
    DeploymentRequested: lambda e: (
        f"Revision {e.revision} of {e.endpoint}/{e.deployment} is wanted, with version {e.spec.model_version} of {e.spec.model}."
    ),
    ReplicaReady: lambda e: f"A copy of {e.endpoint}/{e.deployment} is ready ({e.replica}).",
    ReplicaLost: lambda e: f"A copy of {e.endpoint}/{e.deployment} was lost ({e.replica}): {e.reason}.",
    DeploymentReady: lambda e: f"Revision {e.revision} of {e.endpoint}/{e.deployment} serves from now on.",
    DeploymentFailed: lambda e: f"Revision {e.revision} of {e.endpoint}/{e.deployment} did not become ready: {e.reason}",
    TrafficSet: lambda e: f"Requests at {e.endpoint} go to {_shares(e.traffic)}.",
    DeploymentDeleted: lambda e: f"The deployment {e.deployment} at {e.endpoint} was deleted.",
    EndpointDeleted: lambda e: f"The endpoint {e.endpoint} was deleted.",
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fields(event: Event, *names: str) -> str:
    words = {"tags_set": "tags", "tags_removed": "tags", "display_name": "name", "default_compute": "default compute"}
    changed = [words.get(name, name) for name in names if getattr(event, name)]
    return " and ".join(dict.fromkeys(changed)) or "texts"


def _changes(event: Event, *names: str) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name in names if (value := getattr(event, name)) is not None)


def _until(event: TokenCreated | JoinTokenCreated) -> str:
    return f", good until {event.expires_at:%Y-%m-%d %H:%M} UTC" if event.expires_at else ""


def _made(event: RunStarted) -> str:
    how = "in the cache" if event.environment_cached else "built"
    return how if event.preparing_seconds is None else f"{how} (all was ready after {event.preparing_seconds:.1f} s)"


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _outcome(event: RunEnded) -> str:
    return "was canceled" if event.outcome == "canceled" else event.outcome


def _listed(values: dict[str, str]) -> str:
    shown = [f"{key} = {value if len(value) <= 40 else value[:39] + '…'}" for key, value in list(values.items())[:5]]
    return ", ".join(shown) + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def _source(event: ModelVersionRegistered) -> str:
    return f", from {event.source_path or 'the outputs'} of the run {event.source_run}" if event.source_run else ""


def _shares(traffic: dict[str, int]) -> str:
    return ", ".join(f"{name} ({share} %)" for name, share in traffic.items() if share) or "no deployment"
