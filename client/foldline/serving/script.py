"""The user's scoring script: found, loaded, `init()` called once, `run` at hand."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


class ScriptFailed(Exception):
    """The script cannot serve. The message is one sentence; the trace is in the log before it."""


@dataclass(frozen=True, slots=True)
class Script:
    """`run` takes the request's body as text; it is a coroutine function when `is_async`."""

    run: Callable[[str], Any]
    init: Callable[[], Any] | None
    is_async: bool


def load(folder: Path, entry: str) -> Script:
    """Imports `entry` (a path inside `folder`) with its own folder and `folder` on the import path.

    Raises: ScriptFailed.
    """
    path = (folder / entry).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ScriptFailed(f"The code folder holds no scoring script {entry!r}.")
    for place in (str(folder.resolve()), str(path.parent)):
        if place not in sys.path:
            sys.path.insert(0, place)
    module = _imported(path, entry)
    run, init = getattr(module, "run", None), getattr(module, "init", None)
    if not callable(run):
        raise ScriptFailed(f"The scoring script {entry!r} defines no function run(raw_data).")
    if init is not None and not callable(init):
        raise ScriptFailed(f"In the scoring script {entry!r} `init` is no function.")
    return Script(run, init, inspect.iscoroutinefunction(run))


def initialise(script: Script, wait: Callable[[Awaitable[Any]], Any]) -> None:
    """Calls `init()` once; `wait` runs it to its end when it is a coroutine function.

    Raises: ScriptFailed.
    """
    if script.init is None:
        return
    try:
        result = script.init()
        if inspect.isawaitable(result):
            wait(result)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise ScriptFailed(f"init() raised {_told(error)}.") from None


def _imported(path: Path, entry: str) -> ModuleType:
    name = path.stem if path.stem not in sys.modules else f"entry_script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptFailed(f"The scoring script {entry!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        traceback.print_exc()
        raise ScriptFailed(f"The scoring script {entry!r} has a syntax error in line {error.lineno}: {error.msg}.") from None
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise ScriptFailed(f"The scoring script {entry!r} raised {_told(error)} while it was imported.") from None
    return module


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
