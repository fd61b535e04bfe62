"""The small supervising process over one script, and the warm parent that it is forked from.

It imports nothing beyond os, sys, signal, time and select, so that a start costs a fork. It pumps the script's output into a file that the
script cannot reach, enforces the time limit and (where the run may be given to another node) the lease, stops in order, and leaves
the exit in a file by rename. It outlives the agent; a restarted agent adopts it by `process` (pid and start time) and `exit`.

Files of the control folder: `process` `stop` `lease` `exit` `std_log.txt`. The parent ends when the agent's end of its pipe closes.
"""

# pathlib would be an import, and this process has none to spare:
# ruff: noqa: PTH104, PTH108, PTH208

import os
import select
import signal
import sys
import time

CHUNK = 1 << 16
POLL_SECONDS = 0.5
KILL_ROUNDS = 50

Order = dict[str, list[str]]


def encode(order: Order) -> bytes:
    """An order as bytes: each key with its values, lengths in front (no JSON: the parent imports nothing)."""
    parts: list[str] = []
    for key, values in order.items():
        parts += [key, str(len(values)), *values]
    body = "\0".join(parts).encode(errors="surrogateescape")
    return len(body).to_bytes(8, "big") + body


def decode(body: bytes) -> Order:
    parts = body.decode(errors="surrogateescape").split("\0")
    order: Order = {}
    at = 0
    while at + 1 < len(parts):
        count = int(parts[at + 1])
        order[parts[at]] = parts[at + 2 : at + 2 + count]
        at += 2 + count
    return order


def warm_parent(orders: int, answers: int) -> None:
    """Forks one supervising process per order and answers its pid; ends when the agent does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        head = _exactly(orders, 8)
        body = _exactly(orders, int.from_bytes(head, "big")) if head else b""
        if not body:
            return
        pid = os.fork()
        if pid == 0:
            os.close(orders)
            os.close(answers)
            try:
                os._exit(Supervisor(decode(body)).run())
            finally:
                os._exit(70)
        os.write(answers, b"%d\n" % pid)


def _exactly(source: int, count: int) -> bytes:
    got = b""
    while len(got) < count:
        chunk = os.read(source, count - len(got))
        if not chunk:
            return b""
        got += chunk
    return got


def start_time(pid: int) -> str:
    """Clock ticks since boot at which the process started, '' when it is over: pid and this name a process for good."""
    fields = _facts(pid)
    return "" if fields[0] in ("", "Z") else fields[19]


def state(pid: int) -> str:
    """Its one-letter state, '' when there is no such process."""
    return _facts(pid)[0]


def _facts(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return [""]


class Supervisor:
    """One script from its start to its `exit` file."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.control = order["control"][0]
        self.grace = float(order["grace"][0])
        self.log_room = int(order["log_bytes_max"][0])
        self.cause = "exited"
        self.child = 0
        self.inner = 0
        self.facts = b""
        self.status: int | None = None
        self.stop_at: float | None = None
        self.kill_at: float | None = None
        self.ended = False

    def run(self) -> int:
        os.setsid()
        if not self._claim():
            return 0
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        self.log = os.open(f"{self.control}/std_log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        output, facts = self._spawn()
        self.started = time.time()
        limit = float(self.order["time_limit"][0])
        self.limit_at = time.monotonic() + limit if limit > 0 else None
        self._watch(output, facts, wake_read)
        self._write_exit()
        return 0

    def _claim(self) -> bool:
        """Whether this process is the first and only one for the attempt: a link is made once."""
        name = f"{self.control}/process.{os.getpid()}"
        with open(name, "w") as file:
            file.write(f"{os.getpid()} {start_time(os.getpid())}\n")
        try:
            os.link(name, f"{self.control}/process")
        except FileExistsError:
            return False
        finally:
            os.unlink(name)
        return True

    def _spawn(self) -> tuple[int, int]:
        output, writer = os.pipe2(os.O_CLOEXEC)
        facts, facts_writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        os.set_blocking(facts, False)
        uid = int(self.order["uid"][0])
        if os.getuid() == 0:
            os.fchown(writer, uid, uid)  # so that `> /dev/stderr` works for the script's user
        argv = list(self.order["argv"])
        if argv[0].endswith("/bwrap"):
            argv[1:1] = ["--json-status-fd", str(facts_writer)]
        environment = dict(pair.partition("=")[::2] for pair in self.order["environment"])
        self.child = os.fork()
        if self.child == 0:
            try:
                self._become(argv, environment, writer, facts_writer)
            finally:
                os._exit(127)
        os.close(writer)
        os.close(facts_writer)
        return output, facts

    def _become(self, argv: list[str], environment: dict[str, str], writer: int, facts_writer: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        for procs in self.order["cgroups"]:
            try:
                with open(procs, "w") as file:
                    file.write("0")
            except OSError as problem:
                os.write(writer, f"foldline: cannot join {procs}: {problem}\n".encode())
        if not argv[0].endswith("/bwrap"):
            os.setsid()
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.set_inheritable(facts_writer, True)
        try:
            os.chdir(self.order["folder"][0])
            os.execve(argv[0], argv, environment)  # noqa: S606
        except OSError as problem:
            os.write(2, f"foldline: cannot start {argv[0]}: {problem}\n".encode())

    # -- watching ------------------------------------------------------------------------------------------------------
    def _watch(self, output: int, facts: int, wake: int) -> None:
        poll = select.poll()
        for source in (output, facts, wake):
            poll.register(source, select.POLLIN)
        open_sources = {output, facts}
        while self.status is None:
            for source, _ in poll.poll(self._wait_milliseconds()):
                if source == wake:
                    _drain(wake)
                elif not (self._pump(output) if source == output else self._learn(facts)):
                    poll.unregister(source)
                    open_sources.discard(source)
            self._reap()
            self._deadlines()
        if output in open_sources:
            while self._pump(output, once=True):
                pass
        if facts in open_sources:
            self._learn(facts)
        self._sweep()

    def _wait_milliseconds(self) -> float:
        now = time.monotonic()
        waits = [at - now for at in (self.limit_at, self.kill_at, self.stop_at) if at is not None]
        if self.order["lease"][0] == "1":
            waits.append(POLL_SECONDS)
        return max(0.0, min(waits) * 1000 + 1) if waits else 3_600_000.0

    def _pump(self, output: int, once: bool = False) -> bool:
        """Moves what the script wrote into the log. False when nobody holds the other end (or, `once`, nothing is there)."""
        try:
            data = os.read(output, CHUNK)
        except BlockingIOError:
            return not once
        if not data:
            return False
        kept = data[: self.log_room]
        if kept:
            self.log_room -= len(kept)
            if self.log_room == 0:
                kept += b"\n[foldline: the log has reached its limit; later output is dropped]\n"
            try:
                os.write(self.log, kept)
            except OSError:
                self.log_room = 0  # a full disk costs log lines, never the run
        return True

    def _learn(self, facts: int) -> bool:
        """Takes the pid of the sandbox's first process from bubblewrap's status."""
        try:
            data = os.read(facts, CHUNK)
        except BlockingIOError:
            return True
        self.facts += data
        _, found, rest = data.partition(b'"child-pid":')
        if found:
            self.inner = int(rest.split(b",")[0].split(b"}")[0])
        return bool(data)

    def _reap(self) -> None:
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
            self.ended = True

    def _asked_to_stop(self, *_: object) -> None:
        self.stop_at = time.monotonic()

    def _deadlines(self) -> None:
        now = time.monotonic()
        if self.status is not None:
            return
        if self.stop_at is not None and now >= self.stop_at:
            self.stop_at = None
            self._stop("stopped", self._grace_asked())
        if self.limit_at is not None and now >= self.limit_at:
            self.limit_at = None
            self._stop("time_limit", self.grace)
        if self.order["lease"][0] == "1" and now >= self._lease():
            self._stop("lease", 0.0)
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = now + 1.0
            self._signal(signal.SIGKILL)

    def _grace_asked(self) -> float:
        try:
            with open(f"{self.control}/stop") as file:
                return float(file.read().split()[0])
        except (OSError, ValueError, IndexError):
            return self.grace

    def _lease(self) -> float:
        try:
            with open(f"{self.control}/lease") as file:
                return float(file.read())
        except (OSError, ValueError):
            return float("inf")

    def _stop(self, cause: str, grace: float) -> None:
        """TERM now, KILL when the grace is over; a later stop may only shorten it."""
        kill_at = time.monotonic() + grace
        if self.kill_at is None:
            self.cause = cause
            if grace > 0:
                self._signal(signal.SIGTERM)
        if self.kill_at is None or kill_at < self.kill_at:
            self.kill_at = kill_at

    def _signal(self, number: int) -> None:
        if number == signal.SIGKILL and self.inner:
            kill(self.inner, number)  # the first process of the pid namespace takes all others along
        members = descendants(self.inner or self.child)
        if not self.inner:
            members |= {self.child} | self._strays()
        for pid in members:
            kill(pid, number)

    def _strays(self) -> set[int]:
        """Processes of the script's session or cgroup, daemons included (where there is no pid namespace)."""
        found = _session(self.child)
        for procs in self.order["cgroups"]:
            try:
                with open(procs) as file:
                    found |= {int(line) for line in file}
            except OSError:
                pass
        return found - {os.getpid()}

    def _sweep(self) -> None:
        """The script is over: what it left running is over too."""
        if self.inner:
            kill(self.inner, signal.SIGKILL)
            return
        for _ in range(KILL_ROUNDS):
            strays = {pid for pid in self._strays() if start_time(pid)}
            for pid in strays:
                kill(pid, signal.SIGKILL)
            if not strays:
                return
            time.sleep(0.01)

    def _write_exit(self) -> None:
        sandboxed = self.order["argv"][0].endswith("/bwrap")
        failed = sandboxed and self.cause == "exited" and self.status == 1 and b'"exit-code"' not in self.facts
        text = f"{self.status} {self.cause} {self.started:.3f} {time.time():.3f} {0 if failed else 1}\n"
        name = f"{self.control}/exit.{os.getpid()}"
        with open(name, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, f"{self.control}/exit")


def _drain(source: int) -> None:
    try:
        while os.read(source, 512):
            pass
    except BlockingIOError:
        pass


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as file:
                    children = [int(child) for child in file.read().split()]
                found.update(children)
                waiting += children
        except OSError:
            continue
    return found


def _session(leader: int) -> set[int]:
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[3]) == leader:
                        found.add(int(name))
            except (OSError, ValueError, IndexError):
                continue
    return found


if __name__ == "__main__":
    warm_parent(int(sys.argv[1]), int(sys.argv[2]))
