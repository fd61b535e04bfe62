"""Why a run has the status it has, in one sentence for somebody who sees Foldline for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from projections.run_history import RunRow

_PHASES = {
    "preparing": "prepares the environment and the code",
    "running": "runs the script",
    "finalizing": "stores outputs and logs",
}


def why(row: RunRow) -> str:
    """What the status means for this run, now."""
    match row.status:
        case "queued" if row.attempt == 0:
            return f"Waits for a free slot of the compute {row.compute}."
        case "queued":
            return f"Waits for a free slot of the compute {row.compute} again, after attempt {row.attempt}: {_ended(row.note)}"
        case "preparing":
            return f"Node {row.node} {_PHASES['preparing']} (attempt {row.attempt}; {row.note})."
        case "running":
            return f"The script runs on node {row.node} since {_time(row)}."
        case "finalizing":
            return f"The script ended with {_exit(row.exit_code)}; node {row.node} {_PHASES['finalizing']}."
        case "canceling":
            return f"Somebody asked to cancel it; node {row.node} stops the script and then {_PHASES['finalizing']}."
        case "preempted":
            return f"Node {row.node} stops it to make room; it goes back to the queue: {_ended(row.note)}"
        case "unreachable":
            return (
                f"Nothing was heard of node {row.node} for {row.silent_seconds or 0:.0f} s; when last heard of it, it "
                f"{_PHASES.get(row.phase, 'had the run')}. The script may go on, and nothing it records is lost."
            )
        case "completed":
            return _with_message("The script ended well and everything is stored.", row.message)
        case "canceled":
            return _with_message("It was canceled.", row.message)
        case _:
            return _failed(row)


def _failed(row: RunRow) -> str:
    causes = {
        "exit_code": f"The script ended with {_exit(row.exit_code)}.",
        "signal": f"The script was ended by {_exit(row.exit_code)}.",
        "node_lost": f"Its node {row.node} was lost.",
        "preparation_failed": "Its environment or code could not be prepared.",
        "time_limit": "It ran longer than its time limit.",
        "out_of_memory": "It needed more memory than it was allowed.",
        "agent_error": f"The agent on node {row.node} could not go on with it.",
    }
    return _with_message(causes.get(row.reason or "", "It failed."), row.message)


def _exit(code: int | None) -> str:
    if code is None:
        return "an unknown exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _time(row: RunRow) -> str:
    return f"{row.started_at:%H:%M:%S} UTC" if row.started_at else "a moment ago"


def _ended(text: str | None) -> str:
    sentence = (text or "no reason was given").strip()
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _with_message(sentence: str, message: str | None) -> str:
    """The sentence, and the message where it says more."""
    if not message or message.strip().rstrip(".").lower() in sentence.lower():
        return sentence
    return f"{sentence} {_ended(message)}"
