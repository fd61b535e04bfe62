"""The agent's small pure parts: surroundings, verdicts, manifests, interpreters, GPU tables, settings."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import pytest

from foldline.node import interpreters, settings, snapshot, surroundings, system_metrics, verdict
from foldline.node.launcher import Exit

PLACES = surroundings.Places(
    code="/r/code",
    home="/r/home",
    temporary="/tmp",
    spool="/r/spool",
    environment="/r/env",
    package="/p",
    outputs={"model": "/r/model"},
)
ASSIGNMENT = {
    "run": "calm-fox",
    "experiment": "digits",
    "attempt": 2,
    "workspace_name": "team",
    "run_token": "flr_x",
    "inputs": {"lr": 0.1},
    "environment_variables": {"MINE": "1", "AZUREML_RUN_ID": "forged", "PATH": "/own", "PYTHONPATH": "/mine"},
}


def test_expressions_are_filled_in_as_they_are() -> None:
    text = surroundings.command(
        "t --lr ${{inputs.lr}} --n ${{ inputs.n }} --b ${{inputs.b}} --o ${{outputs.model}} ${{name}}",
        {"lr": 0.1, "n": 3, "b": True},
        {"model": "/r/model"},
        "calm-fox",
    )
    assert text == "t --lr 0.1 --n 3 --b True --o /r/model calm-fox"


def test_optional_parts_stay_when_all_they_name_is_given() -> None:
    text = "x $[[--a ${{inputs.a}}]] $[[--b ${{inputs.b}}]] $[[--c]]"
    assert surroundings.command(text, {"a": 1, "b": None}, {}, "r") == "x --a 1  --c"


def test_an_unknown_expression_is_refused_by_name() -> None:
    with pytest.raises(surroundings.SurroundingsFailed, match=r"\$\{\{search_space.x\}\}"):
        surroundings.command("${{search_space.x}}", {}, {}, "r")


def test_a_scripts_variables_are_azures_mlflows_and_ours() -> None:
    found = surroundings.variables(ASSIGNMENT, PLACES, server="http://s:1", settings={"PIP_INDEX_URL": "i", "MINE": "node's"})
    wanted = {
        "AZUREML_RUN_ID": "calm-fox",
        "AZUREML_ROOT_RUN_ID": "calm-fox",
        "AZUREML_EXPERIMENT_NAME": "digits",
        "AZUREML_EXPERIMENT_ID": "digits",
        "AZUREML_ARM_WORKSPACE_NAME": "team",
        "AZUREML_SERVICE_ENDPOINT": "http://s:1",
        "AZUREML_NODE_COUNT": "1",
        "AZUREML_CR_NODE_RANK": "0",
        "MLFLOW_TRACKING_URI": "http://s:1/mlflow/team",
        "MLFLOW_TRACKING_TOKEN": "flr_x",
        "MLFLOW_RUN_ID": "calm-fox",
        "MLFLOW_EXPERIMENT_NAME": "digits",
        "MLFLOW_EXPERIMENT_ID": "digits",
        "MINE": "1",
        "PIP_INDEX_URL": "i",
        "PATH": "/r/env/bin:/own",
        "PYTHONPATH": "/p:/mine",
        "FOLDLINE_RUN_ID": "calm-fox",
        "FOLDLINE_ATTEMPT": "2",
        "FOLDLINE_SPOOL": "/r/spool",
        "AZURE_ML_OUTPUT_model": "/r/model",
        "PYTHONUNBUFFERED": "1",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["AZ_BATCH_HOST_LIST"]


@pytest.mark.parametrize(
    ("exit_", "memory", "outcome", "reason", "code"),
    [
        (Exit(0, "exited", 0, 1, True), False, "completed", "succeeded", 0),
        (Exit(0, "exited", 0, 1, True), True, "completed", "succeeded", 0),
        (Exit(3, "exited", 0, 1, True), False, "failed", "exit_code", 3),
        (Exit(137, "exited", 0, 1, True), False, "failed", "signal", -9),
        (Exit(139, "exited", 0, 1, True), False, "failed", "signal", -11),
        (Exit(255, "exited", 0, 1, True), False, "failed", "exit_code", 255),
        (Exit(137, "exited", 0, 1, True), True, "failed", "out_of_memory", -9),
        (Exit(1, "exited", 0, 1, True), True, "failed", "out_of_memory", 1),
        (Exit(143, "stopped", 0, 1, True), False, "canceled", "canceled", -15),
        (Exit(0, "stopped", 0, 1, True), False, "canceled", "canceled", 0),
        (Exit(137, "time_limit", 0, 1, True), False, "failed", "time_limit", -9),
        (Exit(137, "lease", 0, 1, True), False, "failed", "agent_error", -9),
        (Exit(-9, "vanished", 0, 1, True), False, "failed", "agent_error", None),
        (Exit(1, "exited", 0, 1, False), False, "failed", "preparation_failed", None),
    ],
)
def test_an_end_means_one_outcome(exit_: Exit, memory: bool, outcome: str, reason: str, code: int | None) -> None:
    found = verdict.of(exit_, out_of_memory=memory, memory_bytes=1 << 30, time_limit_seconds=1, log_tail="bwrap: no")
    assert (found.outcome, found.reason, found.exit_code) == (outcome, reason, code)
    assert found.message.endswith(".") or "bwrap: no" in found.message


def test_signals_are_named() -> None:
    assert verdict.SIGNALS[9] == signal.SIGKILL.name


def _manifest(*paths: str) -> tuple[bytes, str]:
    files = [{"path": path, "sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0} for path in paths]
    entries = [snapshot.Entry(path, hashlib.sha256(b"").hexdigest(), 0, False) for path in paths]
    return json.dumps({"files": files}).encode(), snapshot.digest_of(entries)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a/.", "x\0y", "a/" + "b" * 256, ""])
def test_a_manifest_with_a_path_that_climbs_is_refused(path: str) -> None:
    body, digest = _manifest("good", path)
    with pytest.raises(snapshot.SnapshotFailed, match="path that is not allowed"):
        snapshot.parse(body, digest)


def test_a_manifest_with_another_hash_is_refused() -> None:
    body, _ = _manifest("good")
    with pytest.raises(snapshot.SnapshotFailed, match="does not have its hash"):
        snapshot.parse(body, "0" * 64)
    with pytest.raises(snapshot.SnapshotFailed, match="cannot be read"):
        snapshot.parse(b"{}", "0" * 64)


def test_an_asked_for_python_that_is_missing_is_replaced_with_a_warning() -> None:
    have = max(interpreters.available())
    path, said = interpreters.choose(f"{have[0]}.{have[1]}")
    assert path is not None and said == []
    path, said = interpreters.choose("3.5")
    assert path is not None and said[0].startswith("Python 3.5 is not on this node; Python 3.")
    assert interpreters.choose("")[1] == []


def test_an_interpreter_under_a_closed_home_is_refused_with_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").write_text("#!/bin/sh\n")
    (home / "bin" / "python").chmod(0o755)
    home.chmod(0o700)
    refusal = interpreters.refused(str(home / "bin" / "python"))
    assert refusal is not None and "other users may not enter" in refusal
    path, said = interpreters.choose("", str(home / "bin" / "python"))
    assert path is None and said == [refusal]


def test_gpus_are_read_from_nvidia_smis_table() -> None:
    found = system_metrics.gpus("0, 35, 1024, 81559, 120.5\n1, 0, 4, 81559, [N/A]\nNo devices were found\n")
    assert found["system/gpu_0_utilization_percentage"] == 35.0 and found["system/gpu_0_power_usage_watts"] == 120.5
    assert found["system/gpu_1_memory_usage_megabytes"] == 4.0 and "system/gpu_1_power_usage_watts" not in found


def test_settings_have_defaults_and_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    found = settings.of({"server": "http://x", "token": "t", "directory": str(tmp_path), "slots": 2})
    assert found.cache == tmp_path / "cache" and found.memory_bytes > 0 and found.slots == 2
    with pytest.raises(ValueError, match="unknown keys \\['slot'\\]"):
        settings.of({"server": "http://x", "token": "t", "directory": "/x", "slot": 2})


def test_a_message_holds_nothing_that_the_server_would_refuse() -> None:
    assert verdict.told("It said a\0b\ud800.", "More.") == "It said a\ufffdb?. More."
    assert len(verdict.told("x" * 9000)) == verdict.MESSAGE_MAX
