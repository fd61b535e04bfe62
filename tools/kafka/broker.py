"""Starts one Apache Kafka broker (KRaft, loopback only) on a folder, and stops that one process again.

    python tools/kafka/broker.py --data DIR [--sasl] [--port N]

prints one JSON line with its address once it serves, and runs until it is told to stop (TERM, Ctrl-C). Tests use `Broker`,
`make demo LOG=kafka` uses `start_detached`.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tools.kafka.configuration import Node, properties, remembered, write_private
from tools.kafka.jars import HERE, BrokerUnavailable, ensure_jars, java

READY_SECONDS = 60.0
STARTED = "Kafka Server started"
HEAP_MIB = 384


class Broker:
    """One broker process on one folder; the same folder gives the same address, users and topics again."""

    def __init__(self, data: Path, *, sasl: bool = False, port: int | None = None) -> None:
        self.data = data
        self.node = remembered(data, sasl=sasl, port=port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """HOST:PORT of the broker."""
        return self.node.bootstrap

    @property
    def passwords(self) -> dict[str, str]:
        """Per user, when the broker has SASL."""
        return self.node.passwords

    @property
    def pid(self) -> int:
        """Of the broker's process. Raises: BrokerUnavailable when it does not run."""
        if self._process is None:
            raise BrokerUnavailable("The broker has not been started.")
        return self._process.pid

    async def start(self) -> None:
        """Returns once the broker serves. Raises: BrokerUnavailable."""
        await asyncio.to_thread(format_storage, self.data, self.node)
        self._process = launch(self.data, with_parent=True)
        await asyncio.to_thread(wait_ready, self.data, self._process)

    async def kill(self) -> None:
        """Ends the process as a crash would (SIGKILL)."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ends the process in order."""
        await self._end(signal.SIGTERM)

    async def __aenter__(self) -> Broker:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(end, process, how)


def format_storage(data: Path, node: Node) -> None:
    """Writes the settings, and makes the storage with its users when it is not there yet. Raises: BrokerUnavailable."""
    libs, program = ensure_jars(), java()
    write_private(data / "server.properties", properties(data, node))
    if (data / "log" / "meta.properties").exists():
        return
    shutil.rmtree(data / "log", ignore_errors=True)
    argv = [*_java(program, libs, 128), "kafka.tools.StorageTool", "format", "-t", node.cluster, "-c", str(data / "server.properties")]
    for user, password in node.passwords.items():
        argv += ["--add-scram", f"SCRAM-SHA-256=[name={user},password={password}]"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BrokerUnavailable(f"The broker's storage could not be made:\n{(done.stdout + done.stderr)[-2000:]}")


def launch(data: Path, *, with_parent: bool) -> subprocess.Popen[bytes]:
    """Starts the process; `with_parent`: it dies with the one that started it. Raises: BrokerUnavailable."""
    libs, program = ensure_jars(), java()
    argv = [*_java(program, libs, HEAP_MIB), "kafka.Kafka", str(data / "server.properties")]
    said = data / "broker.log"
    said.unlink(missing_ok=True)
    with said.open("wb") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=data, start_new_session=True,
            preexec_fn=_die_with_parent if with_parent else None,
        )


def wait_ready(data: Path, process: subprocess.Popen[bytes]) -> None:
    """Returns once the broker says that it serves. Raises: BrokerUnavailable with the end of its log."""
    said = data / "broker.log"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if STARTED in said.read_text(errors="replace"):
            return
        time.sleep(0.03)
    end(process, signal.SIGKILL)
    tail = "\n".join(said.read_text(errors="replace").splitlines()[-15:])
    raise BrokerUnavailable(f"The Kafka broker did not start; the end of {said}:\n{tail}")


def end(process: subprocess.Popen[bytes], how: signal.Signals, limit_seconds: float = 20.0) -> None:
    """Ends this process and nothing else; KILL when TERM does not do it in time."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start_detached(data: Path, pid_file: Path) -> dict[str, str]:
    """A broker with SASL that outlives the caller, for the demo; the server's settings for it. One that runs is kept.

    Raises: BrokerUnavailable.
    """
    node = remembered(data, sasl=True, port=None)
    if not _runs(pid_file):
        format_storage(data, node)
        process = launch(data, with_parent=False)
        pid_file.write_text(str(process.pid))
        wait_ready(data, process)
    for user in ("admin", "writer"):
        write_private(data / f"{user}-password", node.passwords[user])
    return {
        "FOLDLINE_KAFKA": node.bootstrap,
        "FOLDLINE_KAFKA_SECURITY": "scram",
        "FOLDLINE_KAFKA_USER": "writer",
        "FOLDLINE_KAFKA_PASSWORD_FILE": str(data / "writer-password"),
        "FOLDLINE_KAFKA_ADMIN_USER": "admin",
        "FOLDLINE_KAFKA_ADMIN_PASSWORD_FILE": str(data / "admin-password"),
        "FOLDLINE_KAFKA_SINGLE_BROKER": "true",
    }


def main() -> int:
    """Runs a broker until it is told to stop, or until the process `--while-runs` is gone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sasl", action="store_true")
    parser.add_argument("--port", type=int)
    parser.add_argument("--while-runs", type=int, metavar="PID")
    parser.add_argument("--remove", action="store_true", help="removes the data at the end")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: told.append(received))
    try:
        node = remembered(data, sasl=arguments.sasl, port=arguments.port)
        format_storage(data, node)
        process = launch(data, with_parent=True)
        wait_ready(data, process)
    except BrokerUnavailable as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"bootstrap": node.bootstrap, "pid": process.pid, "passwords": str(data / "node.json")}), flush=True)
    while not told and process.poll() is None and (arguments.while_runs is None or Path(f"/proc/{arguments.while_runs}").exists()):
        time.sleep(0.2)
    end(process, signal.SIGKILL if arguments.remove else signal.SIGTERM)
    if arguments.remove:
        shutil.rmtree(data, ignore_errors=True)
    return 0


def _java(program: str, libs: Path, heap_mib: int) -> list[str]:
    return [
        program, f"-Xmx{heap_mib}m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
        "-Djava.net.preferIPv4Stack=true", f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}", "-cp", f"{libs}/*",
    ]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _runs(pid_file: Path) -> bool:
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"kafka.Kafka" in command and os.getpid() != pid


if __name__ == "__main__":
    raise SystemExit(main())
