"""All nouns, and what each error becomes: one sentence on standard error and an exit code that scripts can use."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from foldline import __version__
from foldline.configuration import wants_traces
from foldline.problems import BadInput, FoldlineError

NOUNS = {
    "job": "Submit jobs; list, follow, compare, download and cancel runs.",
    "model": "Register, tag, download and delete models.",
    "environment": "Versioned environments: Python packages and variables.",
    "compute": "Computes and their nodes.",
    "node": "Let a machine of yours join a compute, or forget one that is gone.",
    "online-endpoint": "Real-time endpoints: traffic, keys, scoring.",
    "online-deployment": "Deployments of models behind endpoints.",
    "experiment": "Groups of runs.",
    "workspace": "Workspaces.",
    "member": "Who may do what in a workspace.",
    "user": "Users of the installation (administrators).",
    "token": "Tokens to log in with.",
    "journal": "What happened in a workspace: who, what, when, because of what.",
    "config": "This computer's settings: server, workspace, output.",
}
VERBS = {
    "login": ("foldline.cli.login:login", "Log in to a server; the token comes from a prompt, a file or standard input."),
    "logout": ("foldline.cli.login:logout", "Forget the token of a server."),
    "whoami": ("foldline.cli.login:whoami", "Who the token belongs to."),
}
EPILOGUE = """Exit codes: 0 done · 1 the run or deployment failed · 2 bad usage or input · 3 not found · 4 not allowed or not logged in ·
5 conflict · 6 server unavailable · 7 not_yet, a feature that Foldline does not have · 130 interrupted."""


def build() -> App:
    """The whole command; nouns are imported when they are used."""
    app = App(
        name="foldline",
        help="Foldline: runs, models and endpoints, and the log of all that happened.",
        help_epilogue=EPILOGUE,
        version=__version__,
        suppress_keyboard_interrupt=False,
        backend="asyncio",
        help_format="plaintext",
        version_format="plaintext",
        result_action="return_value",
    )
    for noun, sentence in NOUNS.items():
        app.command(f"foldline.cli.{noun.replace('-', '_')}:app", name=noun, help=sentence)
    for verb, (where, sentence) in VERBS.items():
        app.command(where, name=verb, help=sentence)
    return app


def run(tokens: Sequence[str]) -> int:
    """Runs one call and returns its exit code. Prints no traces unless FOLDLINE_TRACEBACK is set."""
    try:
        answer = build()(list(tokens), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(BadInput(" ".join(str(error).split()) + " See --help.", code="usage"))
    except FoldlineError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(BadInput(f"{error.filename or 'This computer'}: {error.strerror or error}.", code="os_error"))
    except BaseExceptionGroup as errors:
        known, _ = errors.split(FoldlineError)
        if known is None:
            raise
        return _fail(_first(known))
    return answer if isinstance(answer, int) else 0


def _fail(error: FoldlineError) -> int:
    if wants_traces():
        import traceback

        traceback.print_exception(error)
    code = "" if error.code in ("not_yet", "usage", "error") else f" [{error.code}]"
    sys.stdout.flush()
    sys.stderr.write(f"foldline: {error.detail}{code}\n")
    return error.exit_code


def _first(error: BaseException) -> FoldlineError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FoldlineError)  # noqa: S101 - split() kept nothing else
    return error
