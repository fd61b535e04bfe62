"""Job files of the Azure ML CLI v2, read into what Foldline's server takes; nothing is sent here.

Map: document (YAML with places and limits), fields (readers), overrides (`--set`), expressions (`${{...}}`), environment, job (command
jobs), sdk (objects of azure-ai-ml), deployment (online deployments), resources (endpoints, models, environments, computes).
What Foldline does not have yet is `NotYet`, raised before a path is looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldline.jobfile.job import JobPlan as JobPlan


def plan_of(job: str | Path | object, overrides: tuple[str, ...] = (), name: str | None = None) -> JobPlan:
    """What to submit for a job file, a `JobCreate`, a dictionary in a job file's shape, or an object of azure-ai-ml.

    Raises: BadInput, NotYet.
    """
    from foldline.jobfile import job as jobs
    from foldline.jobfile.document import from_python, read_file
    from foldline.jobfile.overrides import apply
    from foldline.wire.jobs import JobCreate

    if isinstance(job, JobCreate):
        return jobs.JobPlan(job if name is None else job.model_copy(update={"name": name}), None)
    if isinstance(job, str | Path):
        path = Path(job)
        return jobs.plan(apply(read_file(path), overrides), path.resolve().parent, name)
    if hasattr(job, "_to_dict"):
        from foldline.jobfile.sdk import fields_of

        base = Path(str(getattr(job, "base_path", None) or "."))
        return jobs.plan(apply(from_python(fields_of(job), type(job).__name__), overrides), base.resolve(), name)
    return jobs.plan(apply(from_python(job, "the job"), overrides), Path.cwd(), name)
