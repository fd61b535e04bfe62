"""Python environments: built once for the same content by uv, in a sandbox, as a builder's uid; given to runs as hard-link copies.

Layout of the cache, shared by all agents and the serving pool of a machine: `ready/<key>/` (venv, lock.txt, facts.json), `building/`,
`spares/<key>/` (copies prepared ahead: a warm start costs a rename), `locks/`, `uv/` (uv's own cache, the builder's).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from foldline.node import hardlinks
from foldline.node.interpreters import choose
from foldline.node.sandbox import Sandbox, local_sources, scrubbed_environment

Progress = Callable[[str], None]
"""Called with each line of the build, in the event loop."""

BUILD_SECONDS_MAX = 3600.0
BUILD_PROCESSES_MAX = 4096
LOCK_POLL_SECONDS = 0.05
OUTPUT_LINES_KEPT_MAX = 400
SPARES_PER_UID = 2
"""Two runs right after each other start warm."""
SPARES_MAX = 12
STALE_SECONDS = 6 * 3600.0
UNSEEDED_SECONDS = 600.0


class EnvironmentFailed(Exception):
    """`str()` is a sentence for the person who submitted the job."""


@dataclass(frozen=True, slots=True)
class BuilderIdentity:
    """Who builds: a uid of its own, not a run's, inside the sandbox, with `settings` (PIP_*, UV_*, certificates) from the agent."""

    uid: int
    sandbox: Sandbox
    settings: Mapping[str, str] = field(default_factory=lambda: scrubbed_environment(os.environ))


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    key: str
    path: Path
    """The cached venv. Never written to: take a `copy_for`, or bind it read-only (it is relocatable)."""
    lock_text: str
    """`name==version` a line, sorted."""
    cached: bool
    seconds: float
    warnings: tuple[str, ...]


class EnvironmentCache:
    """Content-addressed venvs below one directory, shared by any number of processes of the machine."""

    def __init__(self, directory: Path, *, builder: BuilderIdentity, python: str | None = None) -> None:
        """`python`: the interpreter for environments that ask for no version; None takes the newest of /usr."""
        self.directory = directory
        self.builder = builder
        self._python = python
        self._hold = asyncio.Lock()
        for name in ("ready", "building", "spares", "locks", "uv"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            for name in ("building", "uv"):
                os.chown(directory / name, builder.uid, builder.uid)

    async def ensure(self, key: str, python: str, packages: Sequence[str], progress: Progress) -> BuiltEnvironment:
        """The environment of that content, built if it is not there; one build at a time per key. Without packages it still has pip.

        Raises: EnvironmentFailed.
        """
        begin = time.monotonic()
        known = self._known(key, begin)
        if known is not None:
            return known
        async with self._locked(key):
            known = self._known(key, begin)
            if known is not None:
                return known
            await self._build(key, python, packages, progress)
        built = self._read(key, False, begin)
        progress(f"The environment is ready after {built.seconds:.1f} s.")
        return built

    async def copy_for(self, key: str, destination: Path, owner_uid: int) -> None:
        """A hard-link copy at `destination`, which must not exist: folders are `owner_uid`'s, files shared and not its to write.

        Takes a spare copy where there is one. Raises: OSError.
        """
        for spare, uid in self._spares(key, owner_uid):
            try:
                spare.rename(destination)
            except OSError:
                continue
            if uid != owner_uid:
                await asyncio.to_thread(hardlinks.own_folders, destination, owner_uid)
            return
        await asyncio.to_thread(hardlinks.copy, self.directory / "ready" / key / "venv", destination, owner_uid)

    async def prepare_spare(self, key: str, owner_uid: int) -> None:
        """Makes the spare copies that the next runs of this uid take, as far as they are missing; old spares go."""
        async with self._hold:
            while sum(uid == owner_uid for _, uid in self._spares(key, owner_uid)) < SPARES_PER_UID:
                await asyncio.to_thread(self._make_spare, key, owner_uid)

    # -- what is there -------------------------------------------------------------------------------------------------
    def _known(self, key: str, begin: float) -> BuiltEnvironment | None:
        folder = self.directory / "ready" / key
        try:
            facts = json.loads((folder / "facts.json").read_text())
            if not facts["seeded"] and time.time() - facts["built_at"] > UNSEEDED_SECONDS:
                return None
            return self._read(key, True, begin)
        except OSError:
            return None

    def _read(self, key: str, cached: bool, begin: float) -> BuiltEnvironment:
        folder = self.directory / "ready" / key
        facts = json.loads((folder / "facts.json").read_text())
        lock_text = (folder / "lock.txt").read_text()
        return BuiltEnvironment(key, folder / "venv", lock_text, cached, time.monotonic() - begin, tuple(facts["warnings"]))

    def _spares(self, key: str, uid: int) -> list[tuple[Path, int]]:
        """Spare copies with their uid, this uid's first."""
        try:
            found = [(path, int(path.name.partition(".")[0])) for path in (self.directory / "spares" / key).iterdir()]
        except OSError:
            return []
        return sorted(found, key=lambda spare: spare[1] != uid)

    def _make_spare(self, key: str, uid: int) -> None:
        source = self.directory / "ready" / key / "venv"
        making = self.directory / "building" / f"spare.{uuid.uuid4().hex}"
        target = self.directory / "spares" / key / f"{uid}.{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        hardlinks.copy(source, making, uid)
        making.rename(target)
        everything = sorted((self.directory / "spares").glob("*/*"), key=_changed, reverse=True)
        for old in everything[SPARES_MAX:]:
            shutil.rmtree(old, ignore_errors=True)

    @asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[None]:
        with (self.directory / "locks" / key).open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(LOCK_POLL_SECONDS)
            yield

    # -- building ------------------------------------------------------------------------------------------------------
    async def _build(self, key: str, python: str, packages: Sequence[str], progress: Progress) -> None:
        if any(package.lstrip().startswith("-") for package in packages):
            raise EnvironmentFailed("The environment's packages must be pip requirements; options such as '-r' are not taken.")
        interpreter, warnings = choose(python, self._python)
        if interpreter is None:
            raise EnvironmentFailed(warnings[0])
        self._sweep()
        home = self.directory / "building" / f"{key}.{uuid.uuid4().hex[:8]}"
        home.mkdir(mode=0o755)
        self.builder.sandbox.own(home, self.builder.uid)
        try:
            for warning in warnings:
                progress(warning)
            seeded = await self._install(home, interpreter, packages, progress, warnings)
            await asyncio.to_thread(self._finish, key, home, warnings, seeded)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, home, True))

    async def _install(self, home: Path, interpreter: str, packages: Sequence[str], progress: Progress, warnings: list[str]) -> bool:
        """Makes the venv and installs; whether it has pip."""
        progress(f"Making a Python environment with {interpreter}" + (f" and {len(packages)} packages." if packages else "."))
        make = ["venv", "--relocatable", "--no-project", "--python", interpreter]
        code, said = await self._uv(home, [*make, "--seed", str(home / "venv")], progress)
        seeded = code == 0
        if not seeded and packages:
            raise EnvironmentFailed(explain(said))
        if not seeded:
            code, again = await self._uv(home, [*make, "--clear", str(home / "venv")], progress)
            if code != 0:
                raise EnvironmentFailed(explain(again))
            warnings.append(f"The environment has no pip: {explain(said)}")
        if packages:
            install = ["pip", "install", "--python", str(home / "venv" / "bin" / "python"), "--compile-bytecode", "--", *packages]
            code, said = await self._uv(home, install, progress)
            if code != 0:
                raise EnvironmentFailed(explain(said))
        return seeded

    async def _uv(self, home: Path, arguments: Sequence[str], progress: Progress) -> tuple[int, list[str]]:
        sandbox, uid = self.builder.sandbox, self.builder.uid
        uv = self._uv_program()
        settings = {**_for_uv(self.builder.settings), "HOME": str(home), "UV_CACHE_DIR": str(self.directory / "uv")}
        settings |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_LINK_MODE": "copy"}
        argv = sandbox.argv(
            [str(uv), *arguments], folder=home, read_only=[uv, *local_sources(settings)], writable=[self.directory / "uv", home], uid=uid,
            processes_max=BUILD_PROCESSES_MAX if os.getuid() == 0 else None,
        )
        process = await asyncio.create_subprocess_exec(
            *argv, env=settings, cwd=home, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )
        lines: list[str] = []
        try:
            async with asyncio.timeout(BUILD_SECONDS_MAX):
                async for raw in process.stdout or ():  # type: ignore[union-attr]  # a pipe was asked for
                    line = raw.decode(errors="replace").rstrip()
                    if line and len(lines) < OUTPUT_LINES_KEPT_MAX:
                        lines.append(line)
                        progress(line)
                return await process.wait(), lines
        except TimeoutError:
            raise EnvironmentFailed(f"The environment was not built within {BUILD_SECONDS_MAX / 60:.0f} minutes.") from None
        except ValueError:
            raise EnvironmentFailed("The environment could not be built: the build printed a line without end.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())

    def _uv_program(self) -> Path:
        import uv

        program = Path(uv.find_uv_bin())
        if self.builder.sandbox.kind != "none" or os.getuid() != 0:
            return program
        copy = self.directory / f"uv-{program.stat().st_size}"
        if not copy.exists():
            shutil.copy2(program, copy.with_suffix(".new"))
            copy.with_suffix(".new").rename(copy)
        return copy

    def _finish(self, key: str, home: Path, warnings: list[str], seeded: bool) -> None:
        """Complete, then visible: one rename."""
        if os.getuid() != 0:
            hardlinks.make_files_read_only(home / "venv")
        made = home / "made"
        made.mkdir()
        (home / "venv").rename(made / "venv")
        (made / "lock.txt").write_text(installed(made / "venv"))
        (made / "facts.json").write_text(json.dumps({"warnings": warnings, "seeded": seeded, "built_at": time.time()}))
        made.chmod(0o755)
        if os.getuid() == 0:
            os.chown(made, 0, 0)
        target = self.directory / "ready" / key
        if target.exists():
            target.rename(home / "replaced")
        made.rename(target)

    def _sweep(self) -> None:
        """What a killed build left."""
        for path in (self.directory / "building").iterdir():
            if time.time() - _changed(path) > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def installed(venv: Path) -> str:
    """`name==version` a line, sorted, from the metadata of what is installed."""
    found: list[str] = []
    for metadata in venv.glob("lib/python3*/site-packages/*.dist-info/METADATA"):
        fields: dict[str, str] = {}
        for line in metadata.read_text(errors="replace").splitlines():
            if not line:
                break
            name, _, value = line.partition(": ")
            fields.setdefault(name, value)
        found.append(f"{fields.get('Name', metadata.parent.name)}=={fields.get('Version', '?')}")
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


OFFLINE = (
    "dns error", "error sending request", "tcp connect error", "Connection refused", "failed to lookup", "Network is unreachable",
    "client error (Connect)",
)
NOT_FOUND = ("was not found in the package registry", "was not found in the provided package locations", "not found in the cache")


def explain(said: Sequence[str]) -> str:
    """uv's output as one sentence for the person who submitted the job."""
    text = " ".join(line.strip(" │├╰─▶×╭") for line in said)
    errors = text.partition("error:")[2].strip() or text.strip()
    if any(sign.lower() in text.lower() for sign in OFFLINE):
        return f"The package index cannot be reached from this node, so the environment cannot be built: {errors[:300]}"
    for sign in NOT_FOUND:
        if sign in text:
            name = text.partition(sign)[0].rpartition("Because ")[2].strip() or "a package"
            return f"The package {name} was not found in the package index; check its name in the environment's packages."
    if "No solution found" in text:
        because = text.partition("Because ")[2].strip()
        return f"No set of versions satisfies the environment's packages: {because[:500]}"
    return f"The environment could not be built: {errors[-600:]}" if errors else "The environment could not be built; uv said nothing."


def _for_uv(settings: Mapping[str, str]) -> dict[str, str]:
    """pip's settings hold for uv too."""
    told = dict(settings)
    for ours, theirs in (("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), ("UV_INDEX", "PIP_EXTRA_INDEX_URL"), ("UV_FIND_LINKS", "PIP_FIND_LINKS")):
        older = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}.get(ours, ours)
        if theirs in told and ours not in told and older not in told:
            told[ours] = told[theirs].replace(" ", ",") if ours == "UV_FIND_LINKS" else told[theirs]
    return told


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
