"""The broker's jars: fetched once by Maven from tools/kafka/pom.xml into a folder that git ignores."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
STORE = HERE.parent.parent / ".kafka"
INSTALL = "apt-get install openjdk-17-jre-headless maven"
JAVA_MIN = 17


class BrokerUnavailable(Exception):
    """No broker can be started here; the message says what to install or what went wrong."""


def ensure_jars() -> Path:
    """The folder with the jars of the version in pom.xml; two callers at a time fetch them once.

    Raises: BrokerUnavailable.
    """
    version = _version()
    libs = STORE / f"libs-{version}"
    if libs.is_dir():
        return libs
    STORE.mkdir(exist_ok=True)
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if libs.is_dir():
            return libs
        if shutil.which("mvn") is None:
            raise BrokerUnavailable(f"Maven fetches the Kafka broker's jars and is not installed: {INSTALL}")
        fresh = Path(tempfile.mkdtemp(prefix="fetching-", dir=STORE))
        argv = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BrokerUnavailable(f"Maven could not fetch Apache Kafka {version}:\n{(done.stdout + done.stderr)[-2000:]}")
        fresh.chmod(0o755)
        fresh.rename(libs)
    return libs


def java() -> str:
    """The Java program that runs the broker. Raises: BrokerUnavailable."""
    found = shutil.which("java")
    if found is None:
        raise BrokerUnavailable(f"Java {JAVA_MIN} or newer runs the Kafka broker and is not installed: {INSTALL}")
    said = subprocess.run([found, "-version"], check=False, capture_output=True, text=True)
    number = re.search(r'version "(\d+)', said.stderr + said.stdout)
    if number is None or int(number.group(1)) < JAVA_MIN:
        raise BrokerUnavailable(f"The Kafka broker needs Java {JAVA_MIN} or newer: {INSTALL}")
    return found


def _version() -> str:
    found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    if found is None:
        raise BrokerUnavailable(f"{POM} names no kafka.version.")
    return found.group(1)
