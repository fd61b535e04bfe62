"""Names and mails of people, by opaque user id: the only place where they are, so that they can be deleted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    user: str
    name: str
    mail: str | None
