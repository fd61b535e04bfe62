"""The main job, as a newcomer runs it: on the embedded default, again on the same data, and on a real Apache Kafka broker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import free_ports

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="foldline-demo-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def demo(log: str, data: Path) -> str:
    done = subprocess.run(
        [sys.executable, "tools/demo.py", "--log", log, "--data", str(data / log)],
        cwd=ROOT, env={**os.environ, **free_ports()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )
    assert done.returncode == 0, done.stdout[-9000:]
    return done.stdout


def test_the_demo_runs_on_the_embedded_default(data: Path) -> None:
    said = demo("postgres", data)
    assert "[13/13]" in said
    assert "DIFFERENT" not in said
    assert "[model_in_use]" in said


def test_the_demo_runs_again_on_the_same_data(data: Path) -> None:
    assert "[13/13]" in demo("postgres", data)


@pytest.mark.kafka
def test_the_demo_runs_on_a_real_kafka_broker(data: Path) -> None:
    said = demo("kafka", data)
    assert "its log is Apache Kafka" in said
    assert "[13/13]" in said
