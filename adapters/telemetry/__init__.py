"""Logs of the server's own: structlog events, as lines of JSON or for a terminal, with secrets scrubbed."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"\b(fl[unrj]_[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)*:)[A-Za-z0-9_-]+")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x9b]")


def configure_logging(level: str, form: str) -> None:
    """Once, at the start of the process. `form` auto is console on a terminal, else JSON."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info, scrub,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer], wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)


def scrub(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tokens lose their secret part, texts their control characters."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = CONTROL.sub("\N{REPLACEMENT CHARACTER}", SECRET.sub(r"\1***", value))
    return event
