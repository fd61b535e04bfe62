"""Job files of the Azure ML CLI v2: what is accepted, what is `not_yet`, what is wrong and where."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from foldline.jobfile import plan_of
from foldline.jobfile.job import JobPlan, as_name
from foldline.problems import BadInput, NotYet
from foldline.wire.jobs import JobCreate

SMALL = {"command": "echo hi", "environment": {"image": "python"}}


def plan(folder: Path, text: str, *overrides: str, name: str | None = None) -> JobPlan:
    path = folder / "job.yml"
    path.write_text(dedent(text))
    return plan_of(path, overrides, name)


def given(**fields: Any) -> JobPlan:
    return plan_of({**SMALL, **fields})


def test_a_whole_job_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "conda.yml").write_text(
        "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip=23.0\n  - pip:\n      - numpy==2.0.0\n"
    )
    read = plan(
        tmp_path,
        """
        $schema: https://example.org/commandJob.schema.json
        type: command
        command: python train.py --lr ${{inputs.lr}} --out ${{outputs.model}}
        code: src
        inputs: {lr: 0.1, rounds: 3, fast: true, note: hello, small: 1e-3}
        outputs: {model: , logs: {type: uri_folder, mode: upload}}
        environment:
          image: library/python:latest
          conda_file: conda.yml
          pip: [pandas]
          variables: {A: b}
        environment_variables: {N: 1, FLAG: true, HALF: 0.50, EMPTY: }
        compute: azureml:cpu
        display_name: A name
        description: Words.
        tags: {team: a, round: 2}
        limits: {timeout: 90}
        resources: {instance_count: 1}
        """,
    )
    job = read.job
    assert read.code == tmp_path / "src"
    assert job.experiment_name == "src"
    assert job.inputs == {"lr": 0.1, "rounds": 3, "fast": True, "note": "hello", "small": "1e-3"}
    assert [type(value) for value in job.inputs.values()] == [float, int, bool, str, str]
    assert set(job.outputs) == {"model", "logs"}
    assert job.outputs["logs"].mode == "upload"
    assert job.environment_variables == {"N": "1", "FLAG": "True", "HALF": "0.5", "EMPTY": ""}
    assert job.tags == {"team": "a", "round": "2"}
    assert job.compute == "cpu"
    assert job.time_limit_seconds == 90
    assert job.environment.model_dump() == {
        "name": None,
        "image": "library/python:latest",
        "python": "3.11",
        "packages": ["numpy==2.0.0", "pandas"],
        "variables": {"A": "b"},
    }
    assert len(read.warnings) == 1
    assert "the node's Python" in read.warnings[0]


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ({"compute": "azureml:serverless"}, "compute", None),
        ({"compute": "serverless"}, "compute", None),
        ({"compute": "plain-name"}, "compute", "plain-name"),
        ({}, "compute", None),
        ({"type": "command"}, "command", "echo hi"),
        ({"name": "run-1"}, "name", "run-1"),
        ({"experiment_name": "e"}, "experiment_name", "e"),
        ({"resources": {"slots": 2}}, "slots", 2),
        ({"retries_on_node_lost": 2}, "retries_on_node_lost", 2),
        ({"limits": {"timeout": "90"}}, "time_limit_seconds", None),
        ({"services": {}, "identity": None, "properties": {}}, "command", "echo hi"),
        ({"command": "a $[[--x ${{inputs.x}}]]b", "inputs": {}}, "command", "a b"),
        ({"command": "a $[[--x ${{inputs.x}}]]", "inputs": {"x": 1}}, "command", "a --x ${{inputs.x}}"),
        ({"inputs": {"x": {"type": "integer", "value": "3"}}}, "inputs", {"x": 3}),
        ({"inputs": {"x": {"type": "boolean", "default": "False"}}}, "inputs", {"x": False}),
        ({"inputs": {"x": {"type": "string", "optional": True}}}, "inputs", {}),
        ({"inputs": {"day": "2024-05-01"}}, "inputs", {"day": "2024-05-01"}),
    ],
)
def test_fields_are_read_as_azure_means_them(fields: dict[str, Any], attribute: str, value: object) -> None:
    if fields.get("limits") == {"timeout": "90"}:
        with pytest.raises(BadInput, match="'timeout' must be a number"):
            given(**fields)
        return
    assert getattr(given(**fields).job, attribute) == value


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("azureml:sk:3", {"name": "sk", "version": "3"}),
        ("azureml:sk@latest", {"name": "sk", "version": None}),
        ("azureml:sk", {"name": "sk", "version": None}),
        ({"image": "python:3.11"}, {"python": "3.11", "image": "python:3.11"}),
        ({"image": "docker.io/library/python:3.12-slim-bookworm"}, {"python": "3.12"}),
        ({"image": "python:3"}, {"python": ""}),
        ({"pip": ["six"]}, {"packages": ["six"], "image": None}),
        ({"conda_file": {"dependencies": ["python==3.11.4", {"pip": ["six>=1"]}]}}, {"python": "3.11.4", "packages": ["six>=1"]}),
        ({"name": "mine", "version": "7", "image": "python"}, {"name": "mine"}),
        ({"name": "CliV2AnonymousEnvironment", "image": "python"}, {"name": None}),
    ],
)
def test_environments_are_read(environment: Any, expected: dict[str, Any]) -> None:
    found = given(environment=environment).job.environment.model_dump()
    assert {key: found[key] for key in expected} == expected


REGISTRY = "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"type": "sweep"}, "sweep jobs"),
        ({"type": "pipeline"}, "pipeline jobs"),
        ({"type": "parallel"}, "parallel jobs"),
        ({"type": "spark"}, "spark jobs"),
        ({"distribution": {"type": "pytorch"}}, "distributed jobs"),
        ({"services": {"a": {"type": "ssh"}}}, "interactive services"),
        ({"identity": {"type": "user_identity"}}, "job identities"),
        ({"queue_settings": {"job_tier": "spot"}}, "queue settings"),
        ({"resources": {"instance_count": 2}}, "several nodes"),
        ({"resources": {"instance_type": "gpu"}}, "instance_type"),
        ({"resources": {"shm_size": "2g"}}, "shm_size"),
        ({"compute": "local"}, "own machine"),
        ({"compute": "azureml:local"}, "own machine"),
        ({"compute": "/subscriptions/x/computes/y"}, "resource id"),
        ({"environment": REGISTRY}, "environments of a registry"),
        ({"environment": "azureml:AzureML-sklearn-1.5@latest"}, "curated environments"),
        ({"environment": "azureml:mine@stable"}, "labels other than latest"),
        ({"environment": "file:./environment.yml"}, "file: addresses"),
        ({"environment": {"build": {"path": "."}}}, "Dockerfile"),
        ({"environment": {"image": "python", "inference_config": {"a": 1}}}, "inference_config"),
        ({"environment": {"image": "ubuntu"}}, "images other than python"),
        ({"environment": {"image": "mcr.microsoft.com/azureml/openmpi"}}, "images other than python"),
        ({"environment": {"image": "library/python:3.11.6"}}, "exact Python"),
        ({"environment": {"image": "python@sha256:00"}}, "images other than python"),
        ({"environment": {"image": "evil/python"}}, "images other than python"),
        ({"environment": {"conda_file": {"dependencies": ["numpy"]}}}, "conda packages other than python and pip"),
        ({"environment": {"conda_file": {"dependencies": ["conda-forge::python"]}}}, "conda packages"),
        ({"environment": {"conda_file": {"dependencies": ["python>=3.9,<3.12"]}}}, "range of Python versions"),
        ({"environment": {"pip": ["--index-url https://evil"]}}, "pip options"),
        ({"environment": {"pip": ["-r /etc/passwd"]}}, "pip options"),
        ({"environment": {"pip": ["evil @ file:///tmp/x"]}}, "address or a path"),
        ({"environment": {"pip": ["git+https://host/x"]}}, "address or a path"),
        ({"environment": {"pip": ["./here"]}}, "address or a path"),
        ({"inputs": {"d": {"type": "uri_file", "path": "https://host/iris.csv"}}}, "data inputs"),
        ({"inputs": {"d": {"path": "azureml:d@latest"}}}, "data inputs"),
        ({"inputs": {"d": {"type": "mltable", "path": "x"}}}, "data inputs"),
        ({"inputs": {"m": {"type": "mlflow_model", "path": "x"}}}, "model inputs"),
        ({"inputs": {"type": "uri_file", "iris_csv": "https://host/iris.csv"}}, "data inputs"),
        ({"outputs": {"o": {"type": "mltable"}}}, "outputs of type mltable"),
        ({"outputs": {"o": {"mode": "direct"}}}, "outputs of mode direct"),
        ({"outputs": {"o": {"path": "azureml://datastores/a/paths/b"}}}, "datastore"),
        ({"code": "git+https://host/repository"}, "code from an address"),
        ({"code": "azureml:code:1"}, "code from an address"),
        ({"command": "echo ${{search_space.x}}"}, "sweep jobs"),
        ({"command": "echo ${{parent.inputs.x}}"}, "pipelines"),
        ({"command": "echo ${{default_datastore}}"}, "datastores"),
        ({"command": "echo ${{name}}"}, "run's name"),
    ],
)
def test_what_is_not_there_yet_says_so(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(NotYet) as refused:
        given(**fields)
    assert str(refused.value).startswith("not_yet: ")
    assert feature in refused.value.feature
    assert refused.value.exit_code == 7


def test_not_yet_comes_before_a_missing_code_folder(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="not_yet: environments of a registry"):
        plan(tmp_path, f"command: ls\ncode: nowhere\nenvironment: {REGISTRY}\n")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("command: ls\nenviroment: {image: python}\n", 1, "needs the field 'environment'"),
        ("command: ls\nenvironment: {image: python}\ncomand: x\n", 3, "no field 'comand' .did you mean 'command'"),
        ("environment: {image: python}\n", 1, "needs the field 'command'"),
        ("command: ls\nenvironment:\n  image: python\n  conda_fil: x\n", 4, "no field 'conda_fil'"),
        ("command: ls\nenvironment: {image: python}\ncode: nowhere\n", 3, "no code folder"),
        ("command: ls\nenvironment: {conda_file: nowhere.yml}\n", 2, "no conda file"),
        ("command: ls\nenvironment: {}\n", 2, "needs an image"),
        ("command: ls ${{inputs.x}}\nenvironment: {image: python}\n", 1, "no input 'x'"),
        ("command: ls ${{outputs.x}}\nenvironment: {image: python}\n", 1, "no output 'x'"),
        ("command: ls ${{nonsense}}\nenvironment: {image: python}\n", 1, "stands for nothing"),
        ("type: commando\ncommand: ls\nenvironment: {image: python}\n", 1, "no type of job"),
        ("command: [a]\nenvironment: {image: python}\n", 1, "must be one value"),
        ("command: ls\nenvironment: {image: python}\ninputs: [a]\n", 3, "must be a mapping"),
        ("command: ls\nenvironment: {image: python}\ninputs:\n  a: {type: nonsense}\n", 4, "no type of input"),
        ("command: ls\nenvironment: {image: python}\ninputs:\n  a: .nan\n", 4, "finite"),
        ("command: ls\nenvironment: {image: python}\ninputs:\n  a:\n", 4, "must be a text"),
        ("command: ls\nenvironment: {image: python}\ninputs:\n  ../a: 1\n", 3, "inputs"),
        ("command: ls\nenvironment: {image: python}\nname: ../../etc\n", 3, "name"),
        ("command: ls\nenvironment: {image: python}\nlimits: {timeout: -1}\n", 3, "time_limit_seconds|timeout"),
        ("command: ls\nenvironment: {image: python}\nenvironment_variables: {'A=B': 1}\n", 3, "environment_variables"),
        ("command: ls\nenvironment: {image: python}\ntags: 3\n", 3, "must be a mapping"),
        ("command: ls\ncommand: rm\nenvironment: {image: python}\n", 2, "written twice .first in line 1"),
        ("command: ls\nenvironment: {image: python, pip: ['a b c']}\n", 2, "no package requirement"),
        ("command: ls\nenvironment: 'a:b:c:d'\n", 2, "names no environment"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("command: !!python/object/apply:os.system [ls]\nenvironment: {image: python}\n", 1, "must be one value"),
        ("command: !!python/name:os.system x\nenvironment: {image: python}\n", 1, "tag"),
        ("command: ls\n  environment: x\n", 2, "no valid YAML"),
        ("", 0, "is empty"),
        ("<<: {a: b}\ncommand: ls\n", 1, "plain names"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        plan(tmp_path, text)
    assert not isinstance(refused.value, NotYet)
    assert refused.value.detail.startswith(str(tmp_path / "job.yml"))
    assert refused.value.fields["line"] == line


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        plan_of(tmp_path / "nowhere.yml")


def test_the_experiment_is_called_after_the_yaml_s_folder_when_there_is_no_code(tmp_path: Path) -> None:
    folder = tmp_path / "My first job!"
    folder.mkdir()
    assert plan(folder, "command: ls\nenvironment: {image: python}\n").job.experiment_name == "My-first-job"


@pytest.mark.parametrize(
    ("text", "name"), [("a b", "a-b"), ("..", "default"), ("ünï", "n"), ("a..b", "a.b"), ("", "default"), ("x" * 300, "x" * 200)]
)
def test_folder_names_become_names(text: str, name: str) -> None:
    assert as_name(text) == name


def test_overrides_change_the_document(tmp_path: Path) -> None:
    text = "command: echo ${{inputs.a}} ${{inputs.b}}\nenvironment: {pip: [x, y]}\ninputs: {a: 1}\n"
    read = plan(tmp_path, text, "inputs.b=0.5", "inputs.a=true", "environment.pip.1=z", "tags.new=a=b", "compute=azureml:c", name="given")
    assert read.job.inputs == {"a": True, "b": 0.5}
    assert read.job.environment.model_dump()["packages"] == ["x", "z"]
    assert read.job.tags == {"new": "a=b"}
    assert read.job.compute == "c"
    assert read.job.name == "given"


@pytest.mark.parametrize("override", ["inputs", "=3", "a..b=1", "environment.pip.7=z", "command.x=1", "environment.pip.x=1", "typo=1"])
def test_an_override_that_fits_nowhere_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(BadInput, match=r"--set|typo"):
        plan(tmp_path, "command: ls\nenvironment: {pip: [x]}\n", override)


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(BadInput, match="aliases written out"):
        plan(tmp_path, "\n".join(lines))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nested deeper"):
        plan(tmp_path, "command: " + "[" * 5000 + "]" * 5000)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="more than 1048576 bytes"):
        plan(tmp_path, "# " + "x" * (1 << 20))


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_bytes(b"command: \xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        plan_of(tmp_path / "job.yml")


def test_an_alias_that_is_used_twice_is_fine(tmp_path: Path) -> None:
    text = "environment_variables: &v {A: x}\ntags: *v\ncommand: ls\nenvironment: {image: python}\n"
    assert plan(tmp_path, text).job.tags == {"A": "x"}


def test_a_finished_request_is_taken_as_it_is() -> None:
    job = JobCreate.model_validate_json('{"experiment_name": "e", "command": "ls", "environment": {"packages": ["six"]}}')
    assert plan_of(job).job is job
    assert plan_of(job, name="other").job.name == "other"


class Command:
    """What azure-ai-ml 1.35 gives for `command(...)`: an anonymous component, and inputs whose booleans have become numbers."""

    base_path = "/"
    experiment_name = "mine"

    def __init__(self, **changes: Any) -> None:
        self._fields = {
            "component": {
                "code": "/",
                "command": "echo ${{inputs.flag}} ${{inputs.rate}} ${{inputs.text}}",
                "environment": {"image": "python", "name": "CliV2AnonymousEnvironment", "version": "6edb"},
                "environment_variables": {"A": 1, "B": True},
                "inputs": {
                    "flag": {"type": "boolean", "default": "True"},
                    "rate": {"type": "number", "default": "1.5"},
                    "text": {"type": "string", "default": "hello"},
                },
                "outputs": {"o": {"type": "uri_folder"}},
                "is_deterministic": True,
                "name": "azureml_anonymous",
                "version": "1",
                "type": "command",
                "tags": {"a": "1"},
            },
            "compute": "azureml:cpu",
            "environment": {"image": "python", "name": "e"},
            "inputs": {"flag": 1, "rate": 2.5},
            "properties": {},
            "limits": {"timeout": 30},
            "type": "command",
            **changes,
        }

    def _to_dict(self) -> dict[str, Any]:
        return self._fields


def test_a_command_of_azure_ai_ml_is_accepted() -> None:
    read = plan_of(Command())
    assert read.job.inputs == {"flag": True, "rate": 2.5, "text": "hello"}
    assert read.job.compute == "cpu"
    assert read.job.environment_variables == {"A": "1", "B": "True"}
    assert read.job.tags == {"a": "1"}
    assert read.job.name is None
    assert read.code == Path("/")
    assert read.job.experiment_name == "mine"
    assert read.job.code_path == "."


def test_a_command_over_a_registered_component_is_not_yet_there() -> None:
    with pytest.raises(NotYet, match="registered components"):
        plan_of(Command(component="azureml:mine:1"))


def test_a_reference_without_a_version_stays_a_reference_on_its_way() -> None:
    assert given(environment="azureml:sk@latest").body()["environment"] == {"name": "sk", "version": None}
    assert given(environment="azureml:sk:2").body()["environment"] == {"name": "sk", "version": "2"}
    assert "version" not in given().body()["environment"]
