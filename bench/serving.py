"""Requests/s and latency of an endpoint through Envoy, at 1 and 32 callers, beside a bare uvicorn application and MLServer.

All serve the same scikit-learn model (the bundled digits, one row a request) in one run on this machine, one after the other in
turns; wrk asks (one thread). A turn during which others kept more than 0.3 cores busy is repeated, up to three times as often as
asked, and the cleanest are kept: a line whose `other_cores` is still high is no clean figure. Peers get an environment of their
own below the temporary folder, kept for the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog
import uv

from adapters.blobs.files import FileBlobs
from adapters.gateway import EnvoyGateway
from adapters.serving import ServingPool
from bench.noise import emit, noise, pss_mb
from core.ids import WorkspaceId
from core.ports import Backend, ReplicaOrder, Route
from foldline.node.environments import BuilderIdentity, EnvironmentCache
from foldline.node.sandbox import BUILDER_UID, Sandbox

SKLEARN = "scikit-learn==1.9.1"
PYTHON = "/usr/bin/python3.11"
WORKSPACE = WorkspaceId("ws-bench")
KEY = "a-key-of-32-characters-for-bench"
DIRTY_CORES = 0.3
PEERS = Path(tempfile.gettempdir()) / "foldline-bench-peers"
SCRIPT = """
import json, os
import joblib, numpy
def init():
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.joblib"))
def run(raw):
    return {"y": model.predict(numpy.asarray(json.loads(raw)["x"], dtype=float)).tolist()}
"""
ROW = [
    0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0,
    0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0,
]


@dataclass
class Target:
    name: str
    url: str
    body: str
    processes: list[psutil.Process]
    headers: dict[str, str]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--envoy-threads", type=int, default=1)
    parser.add_argument("--without-mlserver", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foldline-bench-")))
        folder.chmod(0o755)
        (folder / "model").mkdir()
        port = _free_port()
        bare_python = await asyncio.to_thread(_environment, "bare", SKLEARN, "joblib", "uvicorn", "httptools", "uvloop")
        _run([bare_python, _peers(), "train", str(folder / "model"), str(port + 1)])
        targets = [await stack.enter_async_context(_endpoint(folder, options.envoy_threads))]
        targets.append(stack.enter_context(_bare(bare_python, folder / "model", port)))
        if not options.without_mlserver:
            targets += await asyncio.to_thread(_mlserver, stack, folder / "model", port + 1)
        await asyncio.to_thread(measure, targets, options)
    return 0


def measure(targets: list[Target], options: argparse.Namespace) -> None:
    rates: dict[tuple[str, int], float] = {}
    for target in targets:
        _wait(target)
    for callers in options.callers:
        before = noise()
        turns: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
        for target in targets:
            _wrk(target, callers, 2)
        for _ in range(3 * options.turns):
            for target in targets:
                _settle()
                turns[target.name].append(_wrk(target, callers, options.seconds))
            if all(sum(row["other_cores"] < DIRTY_CORES for row in rows) >= options.turns for rows in turns.values()):
                break
        for target in targets:
            rows = sorted(turns[target.name], key=lambda row: row["other_cores"])[:options.turns]
            rates[target.name, callers] = statistics.median(row["per_s"] for row in rows)
            emit(
                "serving", target=target.name, callers=callers, per_s=round(rates[target.name, callers]),
                p50_ms=statistics.median(row["p50_ms"] for row in rows), p99_ms=statistics.median(row["p99_ms"] for row in rows),
                errors=sum(row["errors"] for row in rows), all_per_s=[round(row["per_s"]) for row in rows],
                other_cores=round(statistics.median(row["other_cores"] for row in rows), 2), pss_mb=pss_mb(_trees(target)), noise=before,
            )
    for callers in options.callers:
        ratios = {
            f"of_{target.name}": round(rates["endpoint", callers] / rates[target.name, callers], 2) for target in targets[1:]
        }
        emit("serving_ratio", callers=callers, **ratios)


@asynccontextmanager
async def _endpoint(folder: Path, envoy_threads: int) -> AsyncIterator[Target]:
    """The endpoint as a server makes it: environment, sandbox, worker, Envoy."""
    sandbox, blobs = Sandbox.probe(), FileBlobs(folder / "blobs")
    builder = BuilderIdentity(BUILDER_UID if os.geteuid() == 0 else os.geteuid(), sandbox)
    environments = EnvironmentCache(PEERS / "environments", builder=builder)
    model = (folder / "model" / "model.joblib").read_bytes()
    order = ReplicaOrder(
        workspace=WORKSPACE, endpoint="digits", deployment="blue", revision=1, replica="r1", epoch=1, model="digits", model_version=1,
        model_manifest=await _stored(blobs, "model.joblib", model), code_manifest=await _stored(blobs, "score.py", SCRIPT.encode()),
        scoring_script="score.py", environment_key="", python="3.11", packages=(SKLEARN, "joblib"), environment_variables={}, settings={},
    )
    gateway = EnvoyGateway(folder / "gateway", port=0, concurrency=envoy_threads)
    pool = ServingPool(
        folder / "serving", blobs=blobs, environments=environments, sandbox=sandbox,
        gateway_gid=gateway.user.gid if gateway.user.own else None,
    )
    async with gateway, pool:
        try:
            began = time.monotonic()
            await pool.start(order)
            while (status := (await pool.list())[0]).phase == "starting":
                await pool.changed()
            if status.phase != "ready":
                raise SystemExit(status.reason)
            emit("serving_start", seconds=round(time.monotonic() - began, 2))
            route = Route(
                workspace=WORKSPACE, workspace_name="bench", endpoint="digits", keys=(KEY,),
                backends=(Backend(deployment="blue", weight=100, addresses=(status.address,)),),
            )
            await gateway.apply([route])
            control = folder / "serving" / WORKSPACE / "digits" / "r1" / "control" / "process"
            processes = [psutil.Process(pid) for pid in (gateway.pid, int(control.read_text().split()[0])) if pid]
            uri = gateway.scoring_uri("bench", "digits")
            yield Target("endpoint", uri, json.dumps({"x": [ROW]}), processes, {"Authorization": f"Bearer {KEY}"})
        finally:
            await pool.shut_down()
            await gateway.shut_down()


@contextmanager
def _bare(python: str, folder: Path, port: int) -> Iterator[Target]:
    process = subprocess.Popen([python, _peers(), "bare", str(folder), str(port)])
    try:
        yield Target("bare_uvicorn", f"http://127.0.0.1:{port}/", json.dumps({"x": [ROW]}), [psutil.Process(process.pid)], {})
    finally:
        process.terminate()
        process.wait()


def _mlserver(stack: AsyncExitStack, folder: Path, port: int) -> list[Target]:
    """MLServer, or a line that says why it is not there."""
    try:
        python = _environment("mlserver", "mlserver", "mlserver-sklearn", SKLEARN)
    except subprocess.CalledProcessError as problem:
        emit("serving", target="mlserver", missing=f"MLServer does not install here: {(problem.stderr or '')[-300:]}")
        return []
    log = (folder / "mlserver.log").open("wb")
    process = subprocess.Popen([str(Path(python).parent / "mlserver"), "start", str(folder)], stdout=log, stderr=log, cwd=folder)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP64", "data": ROW}
    url = f"http://127.0.0.1:{port}/v2/models/digits/infer"
    return [Target("mlserver", url, json.dumps({"inputs": [tensor]}), [psutil.Process(process.pid)], {})]


def _wrk(target: Target, callers: int, seconds: int) -> dict[str, float]:
    headers = {"Content-Type": "application/json", **target.headers}
    script = "wrk.method='POST' " + " ".join(f"wrk.headers['{k}']='{v}'" for k, v in headers.items()) + f" wrk.body=[==[{target.body}]==]\n"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        busy, own = psutil.cpu_times(), _seconds(target)
        argv = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", lua.name, target.url]
        started = os.times()
        output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        ended, after = os.times(), psutil.cpu_times()
    wrk = ended.children_user + ended.children_system - started.children_user - started.children_system
    everything = sum(getattr(after, name) - getattr(busy, name) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return {
        "per_s": float(_found(r"Requests/sec:\s+([\d.]+)", output)), "p50_ms": _latency("50", output), "p99_ms": _latency("99", output),
        "errors": int(failed.group(1)) if failed else 0,
        "other_cores": max(0.0, (everything - wrk - (_seconds(target) - own)) / seconds),
    }


def _settle() -> None:
    """Waits a while for the machine to be idle."""
    for _ in range(8):
        if psutil.cpu_percent(0.5) / 100 * (psutil.cpu_count() or 1) < DIRTY_CORES:
            return


def _latency(share: str, output: str) -> float:
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", _found(rf"^\s+{share}%\s+(\S+)", output)).groups()  # type: ignore[union-attr]  # wrk's own form
    return round(float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], 3)


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"wrk said something else:\n{text}")
    return str(found.group(1))


def _trees(target: Target) -> list[psutil.Process]:
    return [one for process in target.processes for one in (process, *process.children(recursive=True))]


def _seconds(target: Target) -> float:
    return sum(times.user + times.system for process in _trees(target) for times in [process.cpu_times()])


def _wait(target: Target) -> None:
    """Until it answers one request with 200."""
    deadline = time.monotonic() + 120
    while True:
        request = urllib.request.Request(target.url, target.body.encode(), {"Content-Type": "application/json", **target.headers})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                said = json.loads(answer.read())
                if (said["y"] if "y" in said else said["outputs"][0]["data"]) != [0]:
                    raise SystemExit(f"{target.name} takes the digit 0 for something else: {said}")
                return
        except (OSError, urllib.error.URLError) as problem:
            if time.monotonic() > deadline:
                raise SystemExit(f"{target.name} does not answer: {problem}") from problem
            time.sleep(0.2)


def _environment(name: str, *packages: str) -> str:
    """A throw-away environment's Python, made by uv when it is not there yet. Raises: CalledProcessError."""
    place = PEERS / name
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        PEERS.mkdir(exist_ok=True, mode=0o755)
        _run([uv.find_uv_bin(), "venv", "--quiet", "--python", PYTHON, str(place)])
        _run([uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(python), *packages])
        (place / "complete").touch()
    return str(python)


async def _stored(blobs: FileBlobs, path: str, content: bytes) -> str:
    digest = await blobs.put_bytes(WORKSPACE, content)
    return await blobs.put_bytes(WORKSPACE, f"{digest} {len(content)} - {path}\n".encode())


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def _peers() -> str:
    return str(Path(__file__).with_name("serving_peers.py"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
