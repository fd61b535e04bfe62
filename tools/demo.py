"""The main job: from a script to a served model, and the proof that all of it came from the log.

Every step uses what a person would use: the CLI, and HTTP for the scoring.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import server_process

EXAMPLE = server_process.ROOT / "examples" / "digits"
STAGES = 13
COMPUTE, ENDPOINT, MODEL = "cpu-cluster", "digits", "digits"
RATES = ("0.002", "0.05")


class Demo:
    """Runs the CLI as its user would and keeps count of the stages."""

    def __init__(self, server: server_process.Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.stage = 0
        self.started = time.monotonic()
        self.environment = {
            **os.environ, "FOLDLINE_CONFIG": str(folder / "config.json"), "FOLDLINE_URL": server.url,
            "FOLDLINE_TOKEN": server.token_file.read_text().strip(), "FOLDLINE_WORKSPACE": "demo",
        }

    def say(self, text: str) -> None:
        self.stage += 1
        print(f"\n[{self.stage:2}/{STAGES}] {time.monotonic() - self.started:5.1f} s  {text}", flush=True)

    def start_cli(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([str(server_process.BIN / "foldline"), *arguments], env=self.environment, cwd=EXAMPLE, text=True)

    def cli(self, *arguments: str, allowed: tuple[int, ...] = (0,), show: bool = True) -> int:
        """Runs the CLI in sight of the reader; an exit code that is not allowed ends the demo."""
        if show:
            print(f"        $ foldline {' '.join(arguments)}", flush=True)
        done = subprocess.run([str(server_process.BIN / "foldline"), *arguments], env=self.environment, cwd=EXAMPLE, check=False)
        if done.returncode not in allowed:
            raise SystemExit(f"`foldline {' '.join(arguments)}` ended with {done.returncode}.")
        return done.returncode

    def ask(self, *arguments: str) -> Any:
        """The JSON answer of a CLI call."""
        argv = [str(server_process.BIN / "foldline"), *arguments, "-o", "json"]
        done = subprocess.run(argv, env=self.environment, cwd=EXAMPLE, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"`foldline {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def wait(self, what: str, limit_seconds: float, *arguments: str, until: Any) -> Any:
        """Asks again until `until(answer)` holds."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            answer = self.ask(*arguments)
            if until(answer):
                return answer
            time.sleep(0.3)
        raise SystemExit(f"Waited {limit_seconds:.0f} s in vain for: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", choices=["postgres", "kafka"], default="postgres")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    data = arguments.data or server_process.data_folder(arguments.log)
    began = time.monotonic()
    server = server_process.running(data)
    ours = server is None
    kind = "Apache Kafka" if arguments.log == "kafka" else "the embedded Postgres"
    print(f"[ 1/{STAGES}]   0.0 s  The server {'starts' if ours else 'runs already'} on loopback; its log is {kind}.", flush=True)
    if server is None:
        server = server_process.start(arguments.log, data)
    print(f"        healthy at {server.url} after {time.monotonic() - began:.1f} s", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="foldline-demo-") as folder:
            demo = Demo(server, Path(folder))
            demo.stage, demo.started = 1, began
            play(demo)
        print(f"\nDone in {time.monotonic() - began:.0f} s. `make up` leaves a server running; README.md goes on from here.", flush=True)
    finally:
        if ours:
            server_process.down(server)
    return 0


def play(demo: Demo) -> None:
    demo.say("A workspace: it holds runs, models and endpoints, and who may use them.")
    demo.cli("workspace", "create", "demo", allowed=(0, 5))
    demo.say("A compute cluster of local nodes: none now, at most two.")
    known = {compute["name"] for compute in demo.ask("compute", "list")}
    if COMPUTE not in known:
        limits = ("--min-instances", "0", "--max-instances", "2", "--idle-time-before-scale-down", "3")
        demo.cli("compute", "create", "--name", COMPUTE, *limits)
    before = demo.ask("compute", "show", "--name", COMPUTE)
    print(f"        nodes: {before['nodes']}")
    runs = train(demo)
    best = compare(demo, runs)
    version = register(demo, best)
    deploy(demo, version)
    score(demo, best)
    refuse(demo, version)
    shrink(demo, best)
    tell(demo, best)
    rebuild(demo)


def train(demo: Demo) -> list[str]:
    demo.say("Two runs of examples/digits side by side: the cluster grows from 0 to 2; the first one's states and lines as they happen.")
    stamp = f"{int(time.time()):x}"
    names = [f"digits-a-{stamp}", f"digits-b-{stamp}"]
    first = demo.start_cli("job", "create", "-f", "job.yml", "--name", names[0], "--set", f"inputs.lr={RATES[0]}", "--stream")
    demo.wait("the first run to be submitted", 30, "job", "list", until=lambda runs: any(run["name"] == names[0] for run in runs))
    demo.cli("job", "create", "-f", "job.yml", "--name", names[1], "--set", f"inputs.lr={RATES[1]}", "--no-wait", show=False)
    grown = demo.wait("two nodes", 60, "compute", "show", "--name", COMPUTE, until=lambda compute: compute["wanted"] == 2)
    print(f"        the cluster wants {grown['wanted']} nodes: {grown['reason']}", flush=True)
    if first.wait(timeout=180):
        raise SystemExit("The first run failed.")
    demo.say("The second run, with another learning rate, ran beside it on the other node.")
    demo.cli("job", "stream", "--name", names[1])
    nodes = {demo.ask("job", "show", "--name", name)["node"] for name in names}
    print(f"        nodes used: {', '.join(sorted(nodes))}")
    if len(nodes) != 2:
        raise SystemExit("Both runs were on one node.")
    return names


def compare(demo: Demo, runs: list[str]) -> str:
    demo.say("Both compared: a table, their curves here and as a PNG in the first run's files.")
    picture = demo.folder / "compare.png"
    demo.cli("job", "compare", *runs, "--metric", "accuracy", "--png", str(picture), "--attach")
    if picture.read_bytes()[:8] != b"\x89PNG\r\n\x1a\n":
        raise SystemExit("The picture is no PNG.")
    return max(runs, key=lambda run: float(demo.ask("job", "show", "--name", run)["metrics"]["accuracy"]))


def register(demo: Demo, best: str) -> int:
    demo.say(f"The better run is {best}; its model gets a name and the next version.")
    demo.cli("model", "create", "--name", MODEL, "--run", best, "--path", "outputs/model", "--tag", "stage=demo")
    return int(demo.ask("model", "show", "--name", MODEL)["version"])


def deploy(demo: Demo, version: int) -> None:
    demo.say("The model behind a real-time endpoint, with the example's own scoring script, on the target `server`.")
    if not any(endpoint["name"] == ENDPOINT for endpoint in demo.ask("online-endpoint", "list")):
        demo.cli("online-endpoint", "create", "-f", "endpoint.yml")
    demo.cli("online-deployment", "create", "-f", "deployment.yml", "--set", f"model=azureml:{MODEL}:{version}", "--all-traffic")


def score(demo: Demo, best: str) -> None:
    demo.say("Held-out digits scored over HTTP with the endpoint's key; every answer is checked.")
    demo.cli("job", "download", "--name", best, "--download-path", str(demo.folder / "run"))
    held_out = json.loads(next((demo.folder / "run").rglob("holdout.json")).read_text())
    key = demo.ask("online-endpoint", "get-credentials", "--name", ENDPOINT)["primary_key"]
    uri = demo.ask("online-endpoint", "show", "--name", ENDPOINT)["scoring_uri"]
    answers = predict(uri, key, held_out["data"])
    right = sum(answer == label for answer, label in zip(answers, held_out["labels"], strict=True))
    expected = held_out["predictions"]
    print(f"        POST {uri}")
    print(f"        {right} of {len(answers)} digits right; the same answers as the run itself gave: {answers == expected}")
    if answers != expected or right < 0.8 * len(answers):
        raise SystemExit("The endpoint does not answer what the model says.")
    try:
        predict(uri, "wrong", held_out["data"][:1])
    except urllib.error.HTTPError as refused:
        print(f"        with a wrong key: {refused.code}")
    else:
        raise SystemExit("A wrong key was accepted.")


def predict(uri: str, key: str, data: list[list[float]]) -> list[int]:
    body = json.dumps({"data": data}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(uri, body, headers)  # noqa: S310 - the endpoint's own address
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return [int(digit) for digit in json.loads(answer.read())["predictions"]]


def refuse(demo: Demo, version: int) -> None:
    demo.say("Deleting the deployed model version is refused, with the deployment that uses it.")
    demo.cli("model", "delete", "--name", MODEL, "--version", str(version), allowed=(5,))


def shrink(demo: Demo, best: str) -> None:
    demo.say("The training cluster, idle now, scales back to 0; the endpoint still answers.")
    gone = demo.wait("no nodes", 60, "compute", "show", "--name", COMPUTE, until=lambda compute: compute["nodes"] == 0)
    print(f"        the cluster wants {gone['wanted']} nodes: {gone['reason']}")
    key = demo.ask("online-endpoint", "get-credentials", "--name", ENDPOINT)["primary_key"]
    uri = demo.ask("online-endpoint", "show", "--name", ENDPOINT)["scoring_uri"]
    held_out = json.loads(next((demo.folder / "run").rglob("holdout.json")).read_text())
    answers = predict(uri, key, held_out["data"][:5])
    print(f"        the endpoint says {answers} for the digits {held_out['labels'][:5]}")


def tell(demo: Demo, best: str) -> None:
    demo.say("The story of the better run, told from the log: what, who, when, because of what.")
    demo.cli("job", "story", "--name", best)


def rebuild(demo: Demo) -> None:
    demo.say("All read models are dropped and rebuilt from the log, and found identical.")
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{demo.server.url}/api/v1/admin/read-models/rebuild", b"{}",
        {"Authorization": f"Bearer {demo.environment['FOLDLINE_TOKEN']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        said = json.loads(answer.read())
    for model in said["models"]:
        print(f"        {model['model']:<18} {model['rows']:>7} rows  {'identical' if model['identical'] else 'DIFFERENT'}")
    print(f"        from {said['events']} events in {said['seconds']:.1f} s")
    if not all(model["identical"] for model in said["models"]):
        raise SystemExit("A rebuilt read model differs from the one that was dropped.")


if __name__ == "__main__":
    raise SystemExit(main())
