"""The run context inside a training script: each call is one line appended to the run's spool with one write, and nothing waits.

When a call returns, the line is with the kernel: it survives SIGKILL and `os._exit` of the script right after. The node agent sends
what is there to the server. Outside a run, a sentence is printed once and the calls do nothing. Standard library only.
"""

from __future__ import annotations

import json
import operator
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

KEY_MAX = 250
PARAMETER_MAX = 6_000
TAG_MAX = 5_000
STEP_LIMIT = 1 << 63
METRICS_PER_LINE_MAX = 500
LINE_BYTES_MAX = 1 << 20

__all__ = [
    "attempt", "experiment", "log_artifact", "log_metric", "log_metrics", "log_param", "log_params", "run_id", "set_tag", "set_tags",
]  # fmt: skip


class _Spool:
    """The open spool file of this process, the next step per key, and keys as JSON."""

    def __init__(self) -> None:
        self.file = -1
        self.silent = False
        self.complained = False
        self.keys: dict[str, str] = {}
        self.steps: dict[str, int] = {}
        self.lock = threading.Lock()

    def write(self, line: bytes) -> None:
        if self.file < 0 and not self._opened():
            return
        try:
            written = os.write(self.file, line)
        except OSError as problem:
            self._complain(f"foldline: cannot record into the spool: {problem.strerror}")
            return
        if written != len(line):
            self._complain("foldline: cannot record into the spool: no space left on the device")

    def _opened(self) -> bool:
        if self.silent:
            return False
        path = os.environ.get("FOLDLINE_SPOOL")
        try:
            if path:
                self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                return True
            reason = "this script does not run as a Foldline run"
        except OSError as problem:
            reason = f"the spool {path} cannot be opened ({problem.strerror})"
        self.silent = True
        self._complain(f"foldline: {reason}: nothing is recorded")
        return False

    def _complain(self, sentence: str) -> None:
        if not self.complained:
            self.complained = True
            print(sentence, file=sys.stderr, flush=True)


_spool = _Spool()


def _after_fork() -> None:
    """The child opens the spool itself and holds no lock of the parent's threads; its steps go on from the parent's."""
    _spool.lock = threading.Lock()
    if _spool.file >= 0:
        os.close(_spool.file)
        _spool.file = -1


os.register_at_fork(after_in_child=_after_fork)


def log_metric(key: str, value: SupportsFloat, step: SupportsIndex | None = None) -> None:
    """Records one point of a metric. Without `step` it is the one after the key's last in this process, from 0.

    NaN and infinities are fine. Raises: TypeError, ValueError for a key, value or step that is none.
    """
    name = _spool.keys.get(key) if type(key) is str else None
    if name is None:
        name = _key(key, "log_metric")
    number = value if type(value) is float else _number(key, value)
    at = _step(key, step)
    text = repr(number) if number - number == 0.0 else _spelled(number)
    _spool.write(b'{"t":%d,"m":[[%s,%d,%s]]}\n' % (time.time_ns() // 1_000_000, name.encode(), at, text.encode()))


def log_metrics(metrics: Mapping[str, SupportsFloat], step: SupportsIndex | None = None) -> None:
    """Records one point of each metric, all with the same time; up to 500 go in one line, all or none of which survive a crash."""
    points = []
    for key, value in metrics.items():
        name = _key(key, "log_metrics")
        number = _number(key, value)
        points.append((key, name, repr(number) if number - number == 0.0 else _spelled(number)))
    now = time.time_ns() // 1_000_000
    for start in range(0, len(points), METRICS_PER_LINE_MAX):
        text = ",".join(f"[{name},{_step(key, step)},{value}]" for key, name, value in points[start : start + METRICS_PER_LINE_MAX])
        _line(f'{{"t":{now},"m":[{text}]}}')


def log_param(key: str, value: object) -> None:
    """Records a parameter as text. A parameter never changes once logged: the first value stays, and the run's log says so."""
    log_params({key: value})


def log_params(parameters: Mapping[str, object]) -> None:
    """Records parameters as text. Raises: TypeError, ValueError for keys that are none and values over 6,000 characters."""
    _texts("p", parameters, "log_params", PARAMETER_MAX)


def set_tag(key: str, value: object) -> None:
    """Sets a tag of the run; a later value replaces it."""
    set_tags({key: value})


def set_tags(tags: Mapping[str, object]) -> None:
    """Sets tags of the run. Raises: TypeError, ValueError for keys that are none and values over 5,000 characters."""
    _texts("g", tags, "set_tags", TAG_MAX)


def log_artifact(path: str | os.PathLike[str], folder: str = "") -> None:
    """Copies a file or a folder into the run's ./outputs (below `folder`), which is kept with the run.

    Raises: FileNotFoundError, ValueError when `folder` leads out of outputs.
    """
    source = Path(path)
    target = Path(os.environ.get("FOLDLINE_OUTPUTS") or "outputs") / folder
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise ValueError(f"log_artifact: {folder!r} leads out of outputs; give a folder below it")
    target.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target / source.resolve().name, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target / source.name)


def run_id() -> str | None:
    """The run's id, or None outside a run."""
    return os.environ.get("FOLDLINE_RUN_ID")


def experiment() -> str | None:
    """The experiment's name, or None outside a run."""
    return os.environ.get("FOLDLINE_EXPERIMENT")


def attempt() -> int | None:
    """Which attempt of the run this is, from 1, or None outside a run."""
    number = os.environ.get("FOLDLINE_ATTEMPT")
    return int(number) if number else None


def _key(key: object, call: str) -> str:
    """The key as JSON, checked once."""
    if not isinstance(key, str):
        raise TypeError(f"{call}: a key must be a string, not {type(key).__name__} {key!r}")
    known = _spool.keys.get(key)
    if known is not None:
        return known
    if not 1 <= len(key) <= KEY_MAX:
        raise ValueError(f"{call}: a key must have 1 to {KEY_MAX} characters, not {len(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{call}: the key {key!r} is not valid Unicode") from None
    if len(_spool.keys) < 100_000:
        _spool.keys[key] = json.dumps(key)
    return json.dumps(key)


def _number(key: str, value: object) -> float:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"log_metric: the value of {key!r} must be a number, not {type(value).__name__} {value!r}")
    try:
        return float(value)  # anything with __float__: numpy scalars, tensors of one element
    except (TypeError, ValueError, OverflowError, RuntimeError) as problem:
        raise ValueError(f"log_metric: the value of {key!r} is not one number: {problem}") from None


def _step(key: str, step: SupportsIndex | None) -> int:
    if step is None:
        with _spool.lock:
            at = _spool.steps.get(key, 0)
            _spool.steps[key] = at + 1
        return at
    if type(step) is not int:
        try:
            step = operator.index(step)
        except TypeError:
            raise TypeError(f"log_metric: the step of {key!r} must be an integer, not {type(step).__name__} {step!r}") from None
    if not -STEP_LIMIT <= step < STEP_LIMIT:
        raise ValueError(f"log_metric: the step of {key!r} does not fit into 64 bits: {step}")
    _spool.steps[key] = step + 1
    return step


def _spelled(number: float) -> str:
    """NaN and infinities as JSON strings."""
    return '"NaN"' if number != number else '"Infinity"' if number > 0 else '"-Infinity"'


def _texts(kind: str, given: Mapping[str, object], call: str, value_max: int) -> None:
    texts: dict[str, str] = {}
    for key, value in given.items():
        _key(key, call)
        text = value if isinstance(value, str) else str(value)
        if len(text) > value_max:
            raise ValueError(f"{call}: the value of {key!r} has {len(text)} characters; at most {value_max} are kept")
        texts[key] = text.encode("utf-8", "replace").decode()
    for one in ({key: text} for key, text in texts.items()) if len(texts) > 100 else (texts,) if texts else ():
        _line(json.dumps({kind: one}, separators=(",", ":")))


def _line(text: str) -> None:
    line = text.encode() + b"\n"
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"foldline: {len(line)} bytes in one call; at most {LINE_BYTES_MAX} are recorded at once")
    _spool.write(line)
