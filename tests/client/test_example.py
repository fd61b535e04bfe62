"""examples/digits is read as it stands; what its files name is there."""

from __future__ import annotations

from pathlib import Path

from foldline.jobfile import deployment, plan_of, resources
from foldline.jobfile.document import read_file
from foldline.snapshots import snapshot
from foldline.wire.endpoints import DeploymentPut
from foldline.wire.jobs import EnvironmentInline

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"


def test_the_job_is_accepted_with_its_pinned_packages() -> None:
    plan = plan_of(EXAMPLE / "job.yml", ("inputs.lr=0.05",))
    assert plan.code == EXAMPLE / "src"
    assert plan.job.inputs["lr"] == 0.05
    assert isinstance(plan.job.environment, EnvironmentInline)
    assert plan.job.environment.packages
    assert all("==" in package for package in plan.job.environment.packages)
    assert "train.py" in [file.path for file in snapshot(EXAMPLE / "src").files]


def test_the_deployment_is_accepted_in_the_job_s_own_environment() -> None:
    plan = deployment.plan(read_file(EXAMPLE / "deployment.yml"), EXAMPLE)
    assert (plan.endpoint, plan.name) == ("digits", "blue")
    put = DeploymentPut.model_validate({**plan.body, "code": "0" * 64}, strict=False)
    assert (put.model, put.model_version, put.scoring_script) == ("digits", 1, "score.py")
    job = plan_of(EXAMPLE / "job.yml").job.environment
    assert isinstance(job, EnvironmentInline)
    assert isinstance(put.environment, EnvironmentInline)
    assert put.environment.packages == job.packages


def test_the_endpoint_and_the_environment_are_accepted() -> None:
    assert resources.endpoint(read_file(EXAMPLE / "endpoint.yml"))["name"] == "digits"
    head, content = resources.environment_file(read_file(EXAMPLE / "environment.yml"), EXAMPLE)
    assert head["name"] == "digits"
    EnvironmentInline.model_validate(content.body)
