"""What every verb takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Format = Literal["table", "json", "tsv", "yaml"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb."""

    workspace: Annotated[
        str | None, Parameter(name=["--workspace", "-w", "--workspace-name"], help="The workspace; else the configured one.")
    ] = None
    output: Annotated[Format | None, Parameter(name=["--output", "-o"], help="How to print: table (default), json, tsv or yaml.")] = None
    query: Annotated[str | None, Parameter(name="--query", help="A JMESPath expression over the JSON answer.")] = None


COMMON = Common()

Name = Annotated[str, Parameter(name=["--name", "-n"], help="Its name.")]
OptionalName = Annotated[str | None, Parameter(name=["--name", "-n"], help="Its name.")]
File = Annotated[Path, Parameter(name=["--file", "-f"], help="A YAML file.")]
OptionalFile = Annotated[Path | None, Parameter(name=["--file", "-f"], help="A YAML file.")]
Overrides = Annotated[
    tuple[str, ...], Parameter(name="--set", negative="", help="Change a field of the file: a.b=value. May be given often.")
]
Tags = Annotated[tuple[str, ...], Parameter(name=["--tag", "--tags"], negative="", help="KEY=VALUE. May be given often.")]
NoWait = Annotated[bool, Parameter(name="--no-wait", negative="", help="Do not wait until it is done.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]
Flag = Parameter(negative="")


def pairs(given: tuple[str, ...], what: str = "--tag") -> dict[str, str]:
    """KEY=VALUE texts as a dictionary. Raises: BadInput."""
    from foldline.problems import BadInput

    found = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise BadInput(f"{what} {text!r} must look like KEY=VALUE.", code="usage")
        found[key] = value
    return found
