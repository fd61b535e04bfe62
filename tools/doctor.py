"""Says what this machine lacks for `make demo` and `make test`, and the one line that brings it. Standard library only."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

APT = "apt-get install -y git make python3 python3-venv bubblewrap openjdk-17-jre-headless maven"


def main() -> int:
    wanted = sys.argv[2] if len(sys.argv) > 2 else "all"
    demo = [_python(), _program("git"), _program("make")]
    test = [_java(), _program("mvn", "Maven, which brings the Kafka broker's jars")]
    advice = [_program("bwrap", "bubblewrap: without it scripts run with a scrubbed environment only, not in a sandbox")]
    for title, rows in (("make demo", demo), ("make test", test), ("recommended", advice)):
        if wanted == "all":
            print(f"{title}:")
            for ok, text in rows:
                print(f"  {'ok     ' if ok else 'MISSING'} {text}")
    needed = demo + (test if wanted in ("all", "test") else [])
    missing = [text for ok, text in needed if not ok]
    if missing and wanted != "all":
        print("Missing: " + "; ".join(missing))
    if missing or not advice[0][0]:
        print(f"On Debian or Ubuntu one line brings all of it:\n  {APT}")
    return 1 if missing else 0


def _python() -> tuple[bool, str]:
    return sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer is needed)"


def _program(name: str, what: str = "") -> tuple[bool, str]:
    return shutil.which(name) is not None, f"{name}{': ' + what if what else ''}"


def _java() -> tuple[bool, str]:
    java = shutil.which("java")
    if java is None:
        return False, "Java 17 or newer, which runs the Kafka broker"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    version = int(found.group(1)) if found else 0
    return version >= 17, f"Java {version} (17 or newer is needed)"


if __name__ == "__main__":
    raise SystemExit(main())
