"""The run context inside a script: what it writes, what it refuses, and that a point outlives its script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foldline import script


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "points.jsonl"
    path.touch()
    monkeypatch.setenv("FOLDLINE_SPOOL", str(path))
    monkeypatch.setattr(script, "_spool", script._Spool())
    yield path
    if script._spool.file >= 0:
        os.close(script._spool.file)


def _lines(spool: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in spool.read_text().splitlines()]


def _points(spool: Path) -> list[list[Any]]:
    return [point for line in _lines(spool) for point in line.get("m", [])]


def test_steps_count_by_themselves_per_key_and_go_on_from_a_given_one(spool: Path) -> None:
    script.log_metric("a", 1)
    script.log_metric("a", 2)
    script.log_metric("b", 3)
    script.log_metric("a", 4, step=10)
    script.log_metric("a", 5)
    assert _points(spool) == [["a", 0, 1.0], ["a", 1, 2.0], ["b", 0, 3.0], ["a", 10, 4.0], ["a", 11, 5.0]]


def test_nan_and_infinities_are_spelled(spool: Path) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 5e-324):
        script.log_metric("x", value)
    assert [point[2] for point in _points(spool)] == ["NaN", "Infinity", "-Infinity", -0.0, 1e308, 5e-324]


def test_many_metrics_have_one_time_and_a_step(spool: Path) -> None:
    script.log_metrics({"a": 1, "b": True, "c": float("nan")}, step=7)
    script.log_metrics({})
    assert _points(spool) == [["a", 7, 1.0], ["b", 7, 1.0], ["c", 7, "NaN"]]
    assert len(_lines(spool)) == 1


def test_keys_of_any_script_are_carried(spool: Path) -> None:
    script.log_metric('Verlust "ü"\n/1', 1)
    assert _points(spool)[0][0] == 'Verlust "ü"\n/1'


def test_what_floats_is_a_number(spool: Path) -> None:
    class Tensor:
        def __float__(self) -> float:
            return 2.5

    class Step:
        def __index__(self) -> int:
            return 4

    script.log_metric("x", Tensor(), Step())
    assert _points(spool) == [["x", 4, 2.5]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("loss", "0.5"), "the value of 'loss' must be a number, not str '0.5'"),
        (("loss", None), "the value of 'loss' must be a number, not NoneType"),
        (("loss", [1.0]), "must be a number, not list"),
        (("loss", 10**400), "is not one number"),
        ((7, 1.0), "a key must be a string, not int 7"),
        (("", 1.0), "1 to 250 characters"),
        (("x" * 251, 1.0), "1 to 250 characters"),
        (("\ud800", 1.0), "not valid Unicode"),
        (("loss", 1.0, 1.5), "must be an integer, not float 1.5"),
        (("loss", 1.0, 1 << 63), "does not fit into 64 bits"),
    ],
)
def test_what_is_no_point_is_refused_with_a_sentence(spool: Path, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        script.log_metric(*arguments)
    assert spool.read_text() == ""


def test_parameters_and_tags_are_text(spool: Path) -> None:
    script.log_param("lr", 0.1)
    script.log_params({"a": None, "b": "ü"})
    script.set_tag("t", 1)
    assert _lines(spool) == [{"p": {"lr": "0.1"}}, {"p": {"a": "None", "b": "ü"}}, {"g": {"t": "1"}}]
    with pytest.raises(ValueError, match="at most 6000"):
        script.log_param("long", "x" * 6001)
    with pytest.raises(ValueError, match="at most 5000"):
        script.set_tag("long", "x" * 5001)


def test_threads_write_whole_lines_and_no_step_twice(spool: Path) -> None:
    def work() -> None:
        for _ in range(500):
            script.log_metric("x", 1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(point[1] for point in _points(spool)) == list(range(4000))


def test_a_forked_child_writes_too(spool: Path) -> None:
    script.log_metric("x", 1)
    pid = os.fork()
    if pid == 0:
        script.log_metric("x", 2)
        os._exit(0)
    os.waitpid(pid, 0)
    script.log_metric("y", 3)
    assert _points(spool) == [["x", 0, 1.0], ["x", 1, 2.0], ["y", 0, 3.0]]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
def test_a_point_outlives_a_script_that_dies_right_after(spool: Path, end: str) -> None:
    code = f"import os, signal, foldline\nfor i in range(3): foldline.log_metric('x', i)\n{end}"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "FOLDLINE_SPOOL": str(spool)}, stderr=subprocess.DEVNULL)
    assert [point[1:] for point in _points(spool)] == [[0, 0.0], [1, 1.0], [2, 2.0]]


def test_no_point_whose_call_returned_is_lost_to_sigkill_at_any_moment(spool: Path) -> None:
    code = "import foldline\nfor i in range(10**9):\n    foldline.log_metric('x', i)\n    print(i, flush=True)"
    for _ in range(5):
        before = len(_lines(spool))
        process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "FOLDLINE_SPOOL": str(spool)}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = [*range(50), *(int(line) for line in process.stdout.read().split(b"\n")[:-1])]
        process.wait()
        assert len(_lines(spool)) - before >= len(said)


def test_outside_a_run_a_sentence_is_printed_once_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FOLDLINE_SPOOL", raising=False)
    monkeypatch.setattr(script, "_spool", script._Spool())
    for _ in range(3):
        script.log_metric("x", 1)
        script.log_param("a", 1)
    assert capsys.readouterr().err == "foldline: this script does not run as a Foldline run: nothing is recorded\n"
    assert script.run_id() is None and script.experiment() is None and script.attempt() is None


def test_a_full_disk_costs_the_point_and_not_the_script(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOLDLINE_SPOOL", "/dev/full")
    script.log_metric("x", 1)
    script.log_metric("x", 2)
    assert capsys.readouterr().err.count("No space left") == 1


def test_the_runs_facts_are_read_from_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDLINE_RUN_ID", "calm-fox")
    monkeypatch.setenv("FOLDLINE_EXPERIMENT", "digits")
    monkeypatch.setenv("FOLDLINE_ATTEMPT", "2")
    assert (script.run_id(), script.experiment(), script.attempt()) == ("calm-fox", "digits", 2)


def test_an_artifact_is_copied_into_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDLINE_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "deep" / "a.png").write_bytes(b"png")
    script.log_artifact(tmp_path / "plots" / "deep" / "a.png", "pictures")
    script.log_artifact(tmp_path / "plots")
    assert (tmp_path / "outputs/pictures/a.png").read_bytes() == (tmp_path / "outputs/plots/deep/a.png").read_bytes() == b"png"
    with pytest.raises(ValueError, match="leads out of outputs"):
        script.log_artifact(tmp_path / "plots", "../x")
    with pytest.raises(FileNotFoundError):
        script.log_artifact(tmp_path / "missing")


def test_logging_imports_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import foldline; foldline.log_metric; "
        "own = {*sys.stdlib_module_names, 'foldline'}; "
        "print([name for name in set(sys.modules) - before if name.split('.')[0] not in own])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(Path(script.__file__).parents[1])}
    )
    assert done.stdout.strip() == "[]", done.stderr
