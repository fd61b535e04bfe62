"""The agent's channel. Every request carries the node's token; work arrives as the answer of a held request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from foldline.wire.shapes import Answer, Request, Sha256

PROTOCOL = 1
"""The agent sends `Foldline-Protocol: 1`; another number answers 426 `unsupported_protocol` with the supported range."""


class NodeFactsSent(Request):
    hostname: Annotated[str, StringConstraints(max_length=255)]
    cores: Annotated[int, Field(ge=1)]
    memory_bytes: Annotated[int, Field(ge=0)]
    gpus: Annotated[int, Field(ge=0)] = 0
    python: Annotated[str, StringConstraints(max_length=50)]
    platform: Annotated[str, StringConstraints(max_length=200)]
    agent: Annotated[str, StringConstraints(max_length=50)]
    sandbox: Annotated[str, StringConstraints(max_length=500)]


class JoinWithToken(Request):
    """`POST /api/v1/nodes/join` of a machine of your own; the join token is the bearer credential. Answered by `Joined`."""

    facts: NodeFactsSent
    slots: Annotated[int, Field(ge=1, le=64)]


class Joined(Answer):
    node: str
    workspace: str
    compute: str
    token: str
    """The node's own token, for every later request."""


class Hello(Request):
    """`POST /api/v1/agent/hello`: an agent that has its node token (a local node) starts, or starts again."""

    facts: NodeFactsSent
    slots: Annotated[int, Field(ge=1, le=64)]


class Timers(Answer):
    """Answer of `hello`."""

    node: str
    workspace: str
    compute: str
    heartbeat_seconds: float
    lease_seconds: float
    cancel_grace_seconds: float


class Attempt(Request):
    """What the agent has of one attempt."""

    run: str
    attempt: int
    phase: Literal["preparing", "running", "finalizing"]


class WorkRequest(Request):
    """`POST /api/v1/agent/work`, held until there is news or `wait_seconds` are over; every one is also a heartbeat."""

    attempts: Annotated[list[Attempt], Field(max_length=64)]
    wait_seconds: Annotated[float, Field(ge=0, le=30)]


class Assignment(Answer):
    """An attempt to execute. Sent again in every answer until the agent lists it in `attempts`."""

    workspace: str
    workspace_name: str
    run: str
    attempt: int
    experiment: str
    display_name: str | None = None
    parent: str | None = None
    root: str | None = None
    command: str
    inputs: dict[str, str | bool | int | float] = {}
    outputs: dict[str, str] = {}
    """Name -> type."""
    environment_key: str
    python: str = ""
    packages: list[str] = []
    environment_variables: dict[str, str] = {}
    """Those of the environment under those of the job."""
    snapshot: str | None = None
    time_limit_seconds: float | None = None
    run_token: str
    """Reaches this run and its children only; ends with the attempt."""
    traceparent: str | None = None
    slots: int = 1
    retries_on_node_lost: int = 0
    """Over 0: another node may take the run, so this one stops it before its lease ends."""


class Stop(Answer):
    """Stop the attempt in order: TERM, grace, KILL; report it with reason `canceled`."""

    run: str
    attempt: int
    cause: Literal["canceled", "preempted"]
    grace_seconds: float


class WorkAnswer(Answer):
    assignments: list[Assignment] = []
    stops: list[Stop] = []
    drop: list[Attempt] = []
    """Attempts of the request that are not this node's any more: kill them, report nothing."""
    release: bool = False
    """Nothing more will come: the agent ends once it holds no attempt."""


class Started(Request):
    """`POST /api/v1/agent/runs/{run}/started`; each of these answers 204, or 409 `stale_attempt`."""

    attempt: int
    environment_key: Sha256
    environment_lock: Sha256 | None = None
    """Digest of a blob with one `name==version` a line, uploaded before."""
    environment_cached: bool
    sandbox: Annotated[str, StringConstraints(max_length=500)]
    preparing_seconds: float


class Exited(Request):
    """`POST /api/v1/agent/runs/{run}/exited`: the script is over, storing begins."""

    attempt: int
    exit_code: int


class SourceEndSent(Request):
    source: Annotated[str, StringConstraints(max_length=100)]
    last_sequence: Annotated[int, Field(ge=0)]
    digest: Sha256
    """Chained over the batches: `foldline.wire.measurements.chain_digest`, from sequence 1 to `last_sequence`."""


class Ended(Request):
    """`POST /api/v1/agent/runs/{run}/ended`: everything is stored. Sent again until answered."""

    attempt: int
    outcome: Literal["completed", "failed", "canceled"]
    reason: Literal["succeeded", "exit_code", "signal", "canceled", "preparation_failed", "time_limit", "out_of_memory", "agent_error"]
    message: Annotated[str, StringConstraints(max_length=4000)]
    exit_code: int | None = None
    outputs: Sha256 | None = None
    """Digest of the manifest that was posted to `/snapshots` of the workspace."""
    output_files: Annotated[int, Field(ge=0)] = 0
    output_bytes: Annotated[int, Field(ge=0)] = 0
    sources: Annotated[list[SourceEndSent], Field(max_length=100)] = []


ParameterKey = Annotated[str, StringConstraints(min_length=1, max_length=250)]
ParameterValue = Annotated[str, StringConstraints(max_length=6000)]


class Parameters(Request):
    """`POST /api/v1/workspaces/{w}/jobs/{run}/parameters`."""

    parameters: Annotated[dict[ParameterKey, ParameterValue], Field(max_length=200)]
