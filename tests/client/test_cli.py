"""What the command line prints, sends and ends with."""

from __future__ import annotations

import io
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldline import __version__
from tests.client.conftest import Done
from tests.client.scripted_server import Answer, ScriptedServer, page, problem
from tests.client.test_follow import END, piece, status, stream

Cli = Callable[..., Done]
RUN: dict[str, Any] = {
    "name": "amber-otter",
    "experiment_name": "basics",
    "status": "queued",
    "why": "Waits for a free slot.",
    "compute": "local",
    "node": None,
    "command": "echo hi",
    "duration_seconds": None,
    "submitted_by": "ana",
    "submitted_at": "2026-11-23T07:45:41.801734Z",
    "tags": {},
}
ENDED = {**RUN, "status": "completed", "why": "All well.", "duration_seconds": 3.21}
JOB = "command: echo hi\nenvironment: {image: python}\n"
JOBS = "workspaces/lab/jobs"


def job_file(tmp_path: Path, text: str = JOB) -> str:
    path = tmp_path / "job.yml"
    path.write_text(text)
    return str(path)


def test_a_submitted_job_is_shown_with_its_link_and_its_warning(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    server.on("POST", JOBS, Answer({**RUN, "link": "http://h/amber-otter"}, 201))
    done = cli("job", "create", "-f", job_file(tmp_path), "--set", "tags.a=b", "--name", "amber-otter")
    assert done == Done(
        0,
        "amber-otter  queued  Waits for a free slot.\nhttp://h/amber-otter\n",
        "warning: image python is replaced by the node's Python: Foldline runs scripts without containers.\n",
    )
    (asked,) = server.requests("POST", JOBS)
    assert asked.json["tags"] == {"a": "b"}
    assert asked.json["name"] == "amber-otter"
    assert asked.headers["authorization"] == "Bearer flu_me:1:secret"


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("canceled", 1)])
def test_a_streamed_job_shows_states_and_log_and_ends_as_the_run_did(
    cli: Cli, server: ScriptedServer, tmp_path: Path, state: str, code: int
) -> None:
    server.on("POST", JOBS, Answer(RUN, 201))
    server.on("GET", f"{JOBS}/amber-otter", Answer({**ENDED, "status": state}))
    server.on("GET", f"{JOBS}/amber-otter/log", stream(status("queued"), status("running"), piece(0, b"hello\nworld\n"), END))
    done = cli("job", "create", "-f", job_file(tmp_path), "--stream")
    assert done.code == code
    assert done.out == "hello\nworld\n"
    link = f"{server.url}/api/v1/workspaces/lab/jobs/amber-otter"
    assert done.err.splitlines()[1:] == [
        f"Run amber-otter in experiment {tmp_path.name.replace('.', '-')}: {link}",
        "queued       It is queued.",
        "running      It is running.",
        f"{state:<12} All well.",
        f"Run amber-otter {state} after 3.2 s. {link}",
    ]


def test_a_run_that_shows_its_end_late_is_asked_again_and_its_log_not_told_twice(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", f"{JOBS}/amber-otter", Answer(RUN), Answer({**RUN, "status": "finalizing"}), Answer(ENDED))
    server.on("GET", f"{JOBS}/amber-otter/log", stream(status("running"), piece(0, b"once\n"), status("completed"), END))
    done = cli("job", "stream", "amber-otter")
    assert (done.code, done.out) == (0, "once\n")
    assert len(server.requests("GET", f"{JOBS}/amber-otter/log")) == 1


def test_lists_are_tables_json_tsv_yaml_and_queries(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", JOBS, Answer(page(ENDED, RUN)))
    assert cli("job", "list").out == (
        "name         experiment  status     took   compute  node  submitted            by\n"
        "-----------  ----------  ---------  -----  -------  ----  -------------------  ---\n"
        "amber-otter  basics      completed  3.2 s  local    -     2026-11-23 07:45:41  ana\n"
        "amber-otter  basics      queued     -      local    -     2026-11-23 07:45:41  ana\n"
    )
    assert json.loads(cli("job", "list", "-o", "json").out) == [ENDED, RUN]
    assert cli("job", "list", "-o", "tsv", "--query", "[].[name,status]").out == "amber-otter\tcompleted\namber-otter\tqueued\n"
    assert cli("job", "list", "--query", "[0].duration_seconds").out == "3.21\n"
    assert cli("job", "list", "-o", "yaml", "--query", "[0].{name: name}").out == "name: amber-otter\n"
    assert cli("job", "list", "-o", "tsv", "--query", "[0].name").out == "amber-otter\n"


def test_an_empty_list_says_so_in_words_and_is_empty_in_json(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", JOBS, Answer(page()))
    assert cli("job", "list").out == "Nothing there.\n"
    assert cli("job", "list", "-o", "json").out == "[]\n"


def test_text_of_others_does_no_harm_in_a_table(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", JOBS, Answer(page({**RUN, "experiment_name": "\x1b]0;evil\x07\u202e日本"})))
    out = cli("job", "list").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "日本" in out


@pytest.mark.parametrize(
    ("status_code", "code", "exit_code"),
    [
        (401, "unauthenticated", 4),
        (403, "forbidden", 4),
        (404, "not_found", 3),
        (409, "conflict", 5),
        (422, "invalid", 2),
        (500, "internal", 6),
    ],
)
def test_a_refusal_is_one_sentence_with_its_code(cli: Cli, server: ScriptedServer, status_code: int, code: str, exit_code: int) -> None:
    server.on("GET", f"{JOBS}/r", Answer(problem(status_code, code, "This is why."), status_code))
    done = cli("job", "show", "r")
    assert done.code == exit_code
    assert done.out == ""
    assert done.err.startswith("foldline: This is why.")
    assert done.err.endswith(f"[{code}]\n")
    assert done.err.count("\n") == 1


def test_not_yet_is_said_before_anything_is_sent(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    done = cli("job", "create", "-f", job_file(tmp_path, "type: sweep\n"))
    assert done == Done(7, "", f"foldline: not_yet: sweep jobs ({tmp_path}/job.yml:1)\n")
    assert server.asked == []


@pytest.mark.parametrize(
    "tokens",
    [
        ("job", "create"),
        ("job", "shwo", "x"),
        ("jbo",),
        ("job", "show"),
        ("job", "list", "--nonsense"),
        ("job", "list", "-o", "xml"),
        ("job", "list", "--query", "[["),
        ("job", "compare", "one"),
        ("job", "create", "-f", "/nowhere.yml"),
        ("model", "create"),
        ("model", "create", "--name", "m"),
        ("online-endpoint", "update", "e", "--traffic", "blue"),
        ("token", "create", "--expires", "soon"),
        ("config", "set", "colour=red"),
        ("login", "nonsense"),
        ("member", "add", "bob", "--role", "king"),
    ],
)
def test_bad_usage_is_2_and_no_trace(cli: Cli, server: ScriptedServer, tokens: tuple[str, ...]) -> None:
    server.on("GET", JOBS, Answer(page()))
    done = cli(*tokens)
    assert done.code == 2
    assert done.err.startswith("foldline: ")
    assert "Traceback" not in done.err


def test_a_server_that_is_away_is_6(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDLINE_URL", "http://127.0.0.1:9")
    done = cli("job", "list")
    assert done.code == 6
    assert "cannot be reached" in done.err


def test_no_workspace_and_no_server_are_sentences(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLDLINE_WORKSPACE")
    assert "foldline config set workspace=NAME" in cli("job", "list").err
    monkeypatch.delenv("FOLDLINE_URL")
    assert "foldline login URL" in cli("job", "list").err


def test_positions_are_kept_between_calls(cli: Cli, server: ScriptedServer) -> None:
    server.on("POST", f"{JOBS}/amber-otter/cancel", Answer(RUN, 202, {"Foldline-Position": "log:0:41"}))
    server.on("GET", f"{JOBS}/amber-otter", Answer(RUN))
    assert cli("job", "cancel", "amber-otter").code == 0
    assert cli("job", "show", "amber-otter").code == 0
    assert server.requests("GET", f"{JOBS}/amber-otter")[-1].headers["foldline-position"] == "log:0:41"


def test_the_log_is_printed_as_it_is(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", f"{JOBS}/amber-otter", Answer(RUN))
    server.on("GET", f"{JOBS}/amber-otter/log", Answer(b"one\n\x1b[31mtwo", headers={"Foldline-Log-Length": "12"}))
    assert cli("job", "logs", "--name", "amber-otter") == Done(0, "one\n\x1b[31mtwo", "")


def test_a_hostile_listing_is_refused(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    server.on("GET", f"{JOBS}/amber-otter", Answer(RUN))
    server.on("GET", f"{JOBS}/amber-otter/outputs", Answer(page({"path": "../../.bashrc", "bytes": 1, "sha256": "0" * 64})))
    done = cli("job", "download", "amber-otter", "-p", str(tmp_path / "to"))
    assert done.code == 2
    assert "[unsafe_path]" in done.err
    assert not (tmp_path / "to").exists()


def curve(*values: float) -> dict[str, Any]:
    points = [{"step": n, "time": "2026-11-23T00:00:00Z", "value": v, "min": v, "max": v} for n, v in enumerate(values)]
    return {"key": "accuracy", "attempt": 1, "points": points, "total": len(values), "complete": True}


def test_runs_are_compared_in_a_table_as_curves_and_as_a_picture(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    for name, lr, last in (("a", "0.1", 0.5), ("b", "0.2", 0.75)):
        server.on("GET", f"{JOBS}/{name}", Answer({**ENDED, "name": name, "parameters": {"lr": lr}, "inputs": {"lr": 9, "n": 3}}))
        summary = {"key": "accuracy", "last": last, "min": 0.1, "max": last, "last_step": 2, "count": 3}
        system = {**summary, "key": "system/cpu", "count": 99}
        server.on("GET", f"{JOBS}/{name}/metrics", Answer(page(summary, system)))
        server.on("GET", f"{JOBS}/{name}/metrics/curve", Answer(curve(0.1, 0.3, last)))
    server.on("PUT", f"{JOBS}/a/outputs/file", Answer({"path": "outputs/comparison.png", "bytes": 1, "sha256": "0" * 64}, 201))
    done = cli("job", "compare", "a", "b", "--png", str(tmp_path / "c.png"), "--attach")
    assert done.code == 0
    assert done.out.startswith(
        "                 a          b\n"
        "---------------  ---------  ---------\n"
        "status           completed  completed\n"
        "parameter lr     0.1        0.2\n"
        "parameter n      3          3\n"
        "metric accuracy  0.5        0.75\n"
        "\naccuracy by step\n"
    )
    assert "● a" in done.out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    (put,) = server.requests("PUT", f"{JOBS}/a/outputs/file")
    assert put.query["path"] == ["outputs/comparison.png"]
    assert put.body == (tmp_path / "c.png").read_bytes()
    found = json.loads(cli("job", "compare", "a", "b", "-o", "json").out)
    assert found["metrics"] == {"accuracy": {"a": 0.5, "b": 0.75}}
    assert found["parameters"]["lr"] == {"a": "0.1", "b": "0.2"}


def test_a_model_comes_from_a_run_or_a_folder(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    made = {"name": "m", "version": 2, "files": 1, "bytes": 3, "tags": {"a": "b"}, "deployments": []}
    server.on("POST", "workspaces/lab/models", Answer(made, 201))
    server.on("POST", "workspaces/lab/blobs/missing", Answer({"missing": []}))
    done = cli("model", "create", "--name", "m", "--run", "r", "--path", "outputs/model", "--tag", "a=b", "-o", "json")
    assert json.loads(done.out) == made
    body = server.requests("POST", "workspaces/lab/models")[0].json
    assert (body["run"], body["path"], body["tags"]) == ("r", "outputs/model", {"a": "b"})
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "w").write_text("abc")
    from foldline.snapshots import model_folder

    server.on("POST", "workspaces/lab/snapshots", Answer({"digest": model_folder(tmp_path / "net").digest}, 201))
    assert cli("model", "create", "--name", "m", "--path", str(tmp_path / "net")).code == 0
    assert server.requests("POST", "workspaces/lab/snapshots")[0].json["files"][0]["path"] == "net/w"
    assert server.requests("POST", "workspaces/lab/models")[1].json["manifest"] == model_folder(tmp_path / "net").digest


def deployment(state: str, **more: Any) -> dict[str, Any]:
    fields = {"name": "blue", "endpoint": "e", "provisioning_state": state, "revision": 1, "model": "m", "model_version": 1}
    return {**fields, "instance_count": 1, "replicas_ready": int(state == "succeeded"), **more}


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_deployment_is_waited_for_and_a_failure_says_why(cli: Cli, server: ScriptedServer, tmp_path: Path, state: str) -> None:
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "score.py").write_text("def init(): ...\n")
    text = "name: blue\nendpoint_name: e\nmodel: azureml:m:1\ncode_configuration: {code: score, scoring_script: score.py}\n"
    path = tmp_path / "deployment.yml"
    path.write_text(text + "environment: azureml:sk@latest\ninstance_type: Standard_DS3_v2\n")
    from foldline.snapshots import snapshot

    address = "workspaces/lab/online-endpoints/e/deployments/blue"
    server.on("POST", "workspaces/lab/blobs/missing", Answer({"missing": []}))
    server.on("POST", "workspaces/lab/snapshots", Answer({"digest": snapshot(tmp_path / "score").digest}, 201))
    server.on("PUT", address, Answer(deployment("creating"), 201))
    server.on("GET", address, Answer(deployment("creating")), Answer(deployment(state, message="init() raised.", log_tail=["last line"])))
    done = cli("online-deployment", "create", "-f", str(path), "--set", "model=azureml:m:3", "--all-traffic")
    assert done.code == (0 if state == "succeeded" else 1)
    assert "instance_type Standard_DS3_v2 means nothing here" in done.err
    assert "creating: 0 of 1 replicas ready" in done.err
    if state == "failed":
        assert "last line" in done.err
        assert "deployment blue failed: init() raised. [deployment_failed]" in done.err
    body = server.requests("PUT", address)[0].json
    assert (body["model"], body["model_version"], body["all_traffic"]) == ("m", 3, True)
    assert body["environment"] == {"name": "sk", "version": None}


def test_a_compute_takes_azure_s_fields(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    made = {
        "name": "cpu",
        "provider": "local",
        "status": "steady",
        "min_instances": 0,
        "max_instances": 3,
        "wanted": 0,
        "nodes": 0,
        "nodes_busy": 0,
    }
    server.on("POST", "workspaces/lab/computes", Answer(made, 201))
    path = tmp_path / "compute.yml"
    path.write_text(
        "name: cpu\ntype: amlcompute\nsize: Standard_DS3_v2\nmin_instances: 0\nmax_instances: 2\nidle_time_before_scale_down: 60\n"
    )
    done = cli("compute", "create", "-f", str(path), "--max-instances", "3")
    assert done.code == 0
    assert "size Standard_DS3_v2 means nothing here" in done.err
    assert server.requests("POST", "workspaces/lab/computes")[0].json == {
        "name": "cpu",
        "min_instances": 0,
        "max_instances": 3,
        "idle_time_before_scale_down": 60.0,
    }


def test_traffic_is_shared_out(cli: Cli, server: ScriptedServer) -> None:
    endpoint = {"name": "e", "scoring_uri": "u", "traffic": {"blue": 90, "green": 10}, "deployments": [], "provisioning_state": "succeeded"}
    server.on("PATCH", "workspaces/lab/online-endpoints/e", Answer(endpoint))
    for given in (("blue=90 green=10",), ("blue=90", "green=10"), ("blue=90,green=10",)):
        flags = [word for share in given for word in ("--traffic", share)]
        assert cli("online-endpoint", "update", "--name", "e", *flags).code == 0
    bodies = [asked.json for asked in server.requests("PATCH", "workspaces/lab/online-endpoints/e")]
    assert bodies == [{"traffic": {"blue": 90, "green": 10}}] * 3


def test_an_endpoint_is_invoked_with_its_key(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    endpoint = {"name": "e", "scoring_uri": f"{server.url}/api/v1/score", "traffic": {}, "deployments": []}
    server.on("GET", "workspaces/lab/online-endpoints/e", Answer(endpoint))
    server.on("GET", "workspaces/lab/online-endpoints/e/keys", Answer({"primary_key": "k1", "secondary_key": "k2"}))
    server.on("POST", "score", Answer({"predictions": [1]}), Answer({"detail": "The script failed."}, 500), Answer({"message": "No."}, 401))
    (tmp_path / "request.json").write_text('{"data": [[1]]}')
    call = ("online-endpoint", "invoke", "--name", "e", "--request-file", str(tmp_path / "request.json"), "--deployment-name", "blue")
    assert cli(*call) == Done(0, '{"predictions": [1]}\n', "")
    assert cli(*call) == Done(1, "", "foldline: The script failed. [scoring_failed]\n")
    assert cli(*call).code == 4
    asked = server.requests("POST", "score")[0]
    assert asked.headers["authorization"] == "Bearer k1"
    assert asked.headers["azureml-model-deployment"] == "blue"
    assert asked.body == b'{"data": [[1]]}'


def test_login_tries_the_token_and_keeps_it_for_its_user_alone(
    cli: Cli, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOLDLINE_URL")
    monkeypatch.delenv("FOLDLINE_TOKEN")
    monkeypatch.delenv("FOLDLINE_WORKSPACE")
    server.on("GET", "me", Answer(problem(401, "unauthenticated", "No."), 401), Answer({"id": "u-1", "kind": "user", "name": "ana"}))
    only = {"id": "ws-1", "name": "lab", "created_at": "2026-01-01T00:00:00Z", "created_by": "u"}
    server.on("GET", "workspaces", Answer(page(only)))
    server.on("GET", JOBS, Answer(page()))
    token = tmp_path / "token"
    token.write_text("flu_ana:1:secret\n")
    config = tmp_path / "config" / "config.json"
    assert cli("login", server.url, "--token-file", str(token)).code == 4
    assert not config.exists()
    done = cli("login", server.url, "--token-file", str(token))
    assert done.code == 0
    assert done.err == f"Logged in to {server.url} as ana, workspace lab. Kept in {config}.\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "secret" not in done.out + done.err
    assert cli("job", "list").code == 0
    assert server.requests("GET", JOBS)[0].headers["authorization"] == "Bearer flu_ana:1:secret"
    monkeypatch.setattr(sys, "stdin", io.StringIO("flu_ana:2:fresh\n"))
    assert cli("login", server.url).code == 0
    assert "flu_ana:2:fresh" in config.read_text()
    assert cli("config", "set", "workspace=other", "output=json").code == 0
    shown = json.loads(cli("config", "show").out)
    assert (shown["workspace"], shown["logged_in"], shown["output"]) == ("other", True, "json")
    assert cli("logout").code == 0
    assert "fresh" not in config.read_text()
    assert cli("logout").code == 2


def foldline(*tokens: str, **options: Any) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", "from foldline.cli import main; main()", *tokens]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_ends_the_stream_and_not_the_run(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", f"{JOBS}/amber-otter", Answer({**RUN, "status": "running"}))
    server.on("GET", f"{JOBS}/amber-otter/log", stream(status("running"), piece(0, b"hello\n")))
    process = foldline("job", "stream", "amber-otter")
    assert process.stdout is not None
    assert process.stdout.readline() == "hello\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run amber-otter goes on" in err
    assert "foldline job cancel amber-otter" in err
    assert "Traceback" not in err
    assert server.requests("POST", f"{JOBS}/amber-otter/cancel") == []


def test_a_closed_pipe_ends_quietly(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", JOBS, Answer(page(*([RUN] * 3000))))
    process = foldline("job", "list", "-o", "json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait(20) in (0, 141)


def test_the_version_and_every_noun_s_help_are_there(cli: Cli) -> None:
    assert cli("--version").out.strip() == __version__
    out = cli("--help").out
    for noun in ("job", "model", "compute", "online-endpoint", "online-deployment", "workspace", "login", "whoami"):
        assert noun in out
        if noun not in ("login", "whoami"):
            assert "create" in cli(noun, "--help").out


def test_importing_foldline_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import foldline; print(' '.join(set(sys.modules) - before - {'__future__', 'foldline'}))"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""


def test_a_script_s_functions_need_neither_the_client_nor_pydantic() -> None:
    code = "import sys, foldline; foldline.log_metric; print([m for m in ('pydantic', 'httpx2', 'yaml', 'asyncio') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_command_line_reads_answers_without_pydantic(cli: Cli, server: ScriptedServer) -> None:
    server.on("GET", JOBS, Answer(page(RUN)))
    seen = "print('pydantic' in sys.modules, 'rich.markdown' in sys.modules)"
    code = f"import sys; from foldline.cli.app import run; run(['job', 'list']); {seen}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_durations_are_read_as_people_write_them() -> None:
    from foldline.cli.durations import seconds_of

    assert [seconds_of(text) for text in ("90", "90s", "30m", "2h", "1d", "1w", "0.5h")] == [90, 90, 1800, 7200, 86_400, 604_800, 1800]
