"""The rules of the house that a machine can check. A rule argued twice is added here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from core.catalogue import EVENT_CLASSES, HANDLERS, KINDS, kind_of
from core.ids import Stream
from core.upcasters import UPCASTERS

ROOT = Path(__file__).parents[2]
OURS = ("core", "projections", "actors", "adapters", "client/foldline")
PURE = ("core", "projections", "actors")
LINES_MAX, FUNCTION_LINES_MAX = 400, 60

LONGER = {
    "core/runs.py": "a run's whole life reads as one: events, state, evolve, commands, decide",
    "core/endpoints.py": "as core/runs.py",
}
"""Files over LINES_MAX, each with its reason."""

SURROUNDINGS = {
    "adapters/settings.py": "the settings",
    "adapters/bootstrap.py": "what local agents inherit, scrubbed",
    "adapters/gateway/process.py": "what Envoy inherits, scrubbed",
    "adapters/serving/launching.py": "what replicas inherit, scrubbed",
}
"""Who may look at the environment, and for what."""

WAITED_FOR = {
    "adapters/http/sse.py": "two tasks that the same function waits for and cancels",
}
"""Where tasks are made without a task group, and who ends them."""

VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "base", "common", "misc", "tools", "stuff"}
STREAMS = ("workspaces", "users", "computes", "nodes", "environments", "experiments", "runs", "models", "endpoints")
ORDER = ("events", "state", "evolve", "commands", "decide")


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def parsed(*folders: str) -> tuple[tuple[str, ast.Module], ...]:
    return tuple((name_of(file), ast.parse(file.read_text())) for file in sources(*folders))


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module


def test_imports_point_one_way() -> None:
    linted = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("folder", OURS)
def test_files_are_of_a_length_that_can_be_read(folder: str) -> None:
    long = {name_of(file): count for file in sources(folder) if (count := len(file.read_text().splitlines())) > LINES_MAX}
    assert {name: count for name, count in long.items() if name not in LONGER} == {}


def test_every_exception_to_the_length_is_still_needed() -> None:
    assert all(len((ROOT / name).read_text().splitlines()) > LINES_MAX for name in LONGER)


@pytest.mark.parametrize("folder", OURS)
def test_functions_are_of_a_length_that_can_be_read(folder: str) -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {length} lines"
        for name, tree in parsed(folder) for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("folder", PURE)
def test_the_inside_gets_time_randomness_and_settings_as_arguments(folder: str) -> None:
    """asyncio's own clock is allowed to loops and their time limits; no decision, fold or reaction reads one."""
    forbidden = {"time", "random", "secrets", "uuid", "os"}
    trees = parsed(folder)
    wrong = [f"{name} imports {module}" for name, tree in trees for module in imports(tree) if module.partition(".")[0] in forbidden]
    clocks = re.compile(r"(datetime|date)\.(now|today|utcnow)$|^(os\.)?(environ|getenv|urandom)")
    wrong += [f"{name}:{line} calls {call}" for name, tree in trees for line, call in calls(tree) if clocks.search(call)]
    allowed = {"projections/runner.py imports time", "projections/rebuild.py imports time"}
    assert [one for one in wrong if one not in allowed] == []


def test_only_the_settings_read_the_environment() -> None:
    reads = re.compile(r"\bos\.environ\b|\bos\.getenv\b")
    wrong = [
        name_of(file) for file in sources("core", "projections", "actors", "adapters")
        if reads.search(file.read_text()) and name_of(file) not in SURROUNDINGS
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", OURS)
def test_no_task_is_left_to_itself(folder: str) -> None:
    """Tasks belong to a task group; each exception says who waits for them."""
    bare = ("asyncio.create_task", "loop.create_task", "asyncio.get_event_loop")
    trees = [(name, tree) for name, tree in parsed(folder) if name not in WAITED_FOR]
    wrong = [f"{name}:{line} {call}" for name, tree in trees for line, call in calls(tree) if call in bare]
    assert wrong == []


@pytest.mark.parametrize("folder", OURS)
def test_every_queue_has_a_bound(folder: str) -> None:
    wrong = [
        f"{name}:{node.lineno}" for name, tree in parsed(folder) for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("asyncio.Queue", "queue.Queue") and not (node.args or node.keywords)
    ]
    assert wrong == []


def test_names_say_what_a_thing_is() -> None:
    wrong = [name_of(file) for file in sources(*OURS) for part in file.relative_to(ROOT).parts if part.removesuffix(".py") in VAGUE]
    wrong += [
        f"{name} {node.name}" for name, tree in parsed(*OURS) for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?|Base)$", node.name)
    ]
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in parsed(*OURS) if tree.body and ast.get_docstring(tree) is None] == []


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_is_written_in_the_canonical_order(stream: str) -> None:
    marks = re.findall(r"^# -- (\w+) -+$", (ROOT / f"core/{stream}.py").read_text(), re.MULTILINE)
    assert tuple(marks) == ORDER


def test_every_event_has_a_name_written_down_and_a_docstring_or_a_name_that_says_it() -> None:
    for name, event in EVENT_CLASSES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
        words = "".join(part.capitalize() for part in name.split("-"))
        assert event.__name__ == words
        assert event.model_config["frozen"]
        assert event.model_config["extra"] == "forbid"


def test_every_stored_name_belongs_to_one_kind_of_stream_and_every_upcaster_to_a_stored_name() -> None:
    names = [event.model_fields["type"].default for kind in KINDS.values() for event in kind.events]
    assert sorted(names) == sorted(EVENT_CLASSES)
    assert set(UPCASTERS) <= set(EVENT_CLASSES)


def test_every_command_is_frozen_and_has_one_handler() -> None:
    commands = {
        node.name
        for name, tree in parsed("core") if Path(name).stem in STREAMS
        for node in _after(tree, name, "commands", "decide") if isinstance(node, ast.ClassDef)
    }
    assert commands == {command.__name__ for command in HANDLERS}
    assert all(command.__dataclass_params__.frozen for command in HANDLERS)


def _after(tree: ast.Module, name: str, start: str, end: str) -> list[ast.stmt]:
    lines = (ROOT / name).read_text().splitlines()
    first = next(n for n, line in enumerate(lines, 1) if line.startswith(f"# -- {start} "))
    last = next(n for n, line in enumerate(lines, 1) if line.startswith(f"# -- {end} "))
    return [node for node in tree.body if first < node.lineno < last]


def test_every_kind_of_stream_is_found_by_its_prefix() -> None:
    for prefix, kind in KINDS.items():
        assert kind_of(Stream(f"{prefix}/anything/at all")) is kind
    with pytest.raises(KeyError):
        kind_of(Stream("unknown/thing"))


def test_no_test_is_skipped_in_silence_and_none_plays_with_mocks() -> None:
    """A skip is allowed only where the machine cannot have what is tested, with the reason beside it."""
    skipping = re.compile(r"pytest\.(mark\.)?(skip\b|xfail)|skipif\((?!.*reason=)|unittest\.mock|MagicMock")
    wrong = [name_of(file) for file in sources("tests") if file != Path(__file__) and skipping.search(file.read_text())]
    assert wrong == []


def test_nothing_is_left_to_do_later() -> None:
    wrong = [name_of(file) for file in sources(*OURS) if re.search(r"\b(TODO|FIXME|XXX)\b", file.read_text())]
    assert wrong == []


def test_errors_have_codes_of_their_own() -> None:
    from core import errors

    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Refusal)]
    codes = [refusal.__dict__["code"] for refusal in found if "code" in refusal.__dict__]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
