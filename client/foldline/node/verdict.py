"""What a script's end means: outcome, reason and one sentence, from what the supervising process left."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from foldline.node.launcher import Exit

MESSAGE_MAX = 4000
SIGNALS = {number.value: number.name for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: str
    reason: str
    message: str
    exit_code: int | None = None


def of(exit_: Exit, *, out_of_memory: bool, memory_bytes: int, time_limit_seconds: float | None, log_tail: str) -> Verdict:
    """`exit_code` is negative when a signal ended the script (a shell's and bubblewrap's 128 + n is one)."""
    code = exit_.status
    if code > 128 and code - 128 in SIGNALS:
        code = 128 - code
    if exit_.cause == "vanished":
        return Verdict("failed", "agent_error", "The process that supervised the script was killed, and the script with it.")
    if not exit_.set_up:
        return Verdict("failed", "preparation_failed", f"The sandbox could not be set up: {log_tail or 'it said nothing'}")
    if exit_.cause == "stopped":
        return Verdict("canceled", "canceled", f"Stopped on request; the script {_ended(code)}.", code)
    if exit_.cause == "time_limit":
        return Verdict("failed", "time_limit", f"Stopped after its time limit of {time_limit_seconds or 0:g} s.", code)
    if exit_.cause == "lease":
        return Verdict("failed", "agent_error", "Stopped because the node had lost the server, and another node may take the run.", code)
    if code == 0:
        return Verdict("completed", "succeeded", "The script ended with exit code 0.", 0)
    if out_of_memory:
        message = f"The script needed more than the {memory_bytes >> 20} MiB of memory that it has here."
        return Verdict("failed", "out_of_memory", message, code)
    if code < 0:
        return Verdict("failed", "signal", f"The script {_ended(code)}.", code)
    return Verdict("failed", "exit_code", f"The script {_ended(code)}.", code)


def told(*sentences: str) -> str:
    """One message as the server takes it, whatever a script's log put into it: a refused report would leave the run without an end."""
    return " ".join(sentences)[:MESSAGE_MAX].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _ended(code: int) -> str:
    return f"was ended by {SIGNALS.get(-code, 'signal')} ({-code})" if code < 0 else f"ended with exit code {code}"
