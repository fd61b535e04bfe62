"""An agent that is not root: a user namespace in place of uids, and the same promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import uv

import foldline
from tests.client.node.conftest import Agents
from tests.client.node.control_plane import TOKEN, ControlPlane

UID = 209_998
SCRIPT = """
id -u; grep CapEff /proc/self/status; ls /proc | grep -c '^[0-9]'; cat %s; unshare -Ur id
python -c "import foldline; foldline.log_metric('x', 1)"; pip --version > /dev/null && echo pip; (setsid sleep 78.5 &)
echo kept > outputs/kept; ln -s %s outputs/secret
"""


async def test_a_node_of_an_ordinary_user_runs_and_fences_scripts(plane: ControlPlane, agents: Agents) -> None:
    library = agents.folder / "library"
    for package in (foldline, psutil, uv):
        shutil.copytree(Path(str(package.__file__)).parent, library / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "bin").mkdir()
    shutil.copy2(uv.find_uv_bin(), library / "bin" / "uv")
    config, home = agents.folder / "config.json", agents.folder / "home"
    home.mkdir()
    config.write_text(json.dumps({"server": plane.url, "token": TOKEN, "directory": str(agents.directory), "pace_seconds": 0.02}))
    agents.directory.mkdir()
    command = ["/usr/bin/python3.11", "-m", "foldline.node", "--config", str(config)]
    if os.getuid() == 0:
        for path in (config, home, agents.directory):
            os.chown(path, UID, UID)
        command = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *command]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    agents.process = subprocess.Popen(
        command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(library), "HOME": str(home), **kept}, start_new_session=True
    )
    await plane.until(lambda: plane.hellos, 30)
    assert "user namespace" in plane.hellos[0].facts.sandbox
    seen = await plane.assign(SCRIPT % (config, config))
    ended = await plane.over(seen)
    lines = seen.log.splitlines()
    assert ended.outcome == "completed", seen.log
    assert lines[0] == str(UID if os.getuid() == 0 else os.getuid()) and lines[1].split()[1] == "0" * 16 and int(lines[2]) < 10
    assert "No such file" in lines[3] and "unshare failed" in lines[4] and "pip" in lines
    assert "'outputs/secret' was not kept: it is a symbolic link." in ended.message and "outputs/kept" in plane.outputs(seen)
    assert not any(TOKEN.encode() in blob for blob in plane.blobs.values())
    assert seen.points == [("x", 0, 1.0)]
    assert subprocess.run(["pgrep", "-f", "sleep 78.5"], capture_output=True).returncode == 1
    plane.check_complete(seen)
    plane.release = True
