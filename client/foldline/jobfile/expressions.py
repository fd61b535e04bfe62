"""`${{inputs.x}}` and `$[[optional parts]]` in a command: checked here, filled in on the node."""

from __future__ import annotations

import re
from collections.abc import Collection

from foldline.jobfile.document import BadFile, Place
from foldline.problems import NotYet

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def checked(command: str, inputs: Collection[str], outputs: Collection[str], place: Place) -> str:
    """The command with its optional parts decided: kept when all their inputs are given, left out otherwise.

    Raises: NotYet, BadFile for an expression that names nothing.
    """

    def decide(part: re.Match[str]) -> str:
        named = [_input_name(expression) for expression in EXPRESSION.findall(part[1])]
        return part[1] if all(name is None or name in inputs for name in named) else ""

    decided = OPTIONAL.sub(decide, command)
    for expression in EXPRESSION.findall(decided):
        _check(expression, inputs, outputs, place)
    return decided


def _input_name(expression: str) -> str | None:
    kind, _, name = expression.partition(".")
    return name if kind == "inputs" else None


def _check(expression: str, inputs: Collection[str], outputs: Collection[str], place: Place) -> None:
    kind, _, name = expression.partition(".")
    if kind in ("inputs", "outputs"):
        known = inputs if kind == "inputs" else outputs
        if name not in known:
            raise BadFile(
                place, f"the command names ${{{{{expression}}}}}, and the job has no {kind[:-1]} {name!r}.", code="unknown_expression"
            )
        return
    if expression == "name":
        raise NotYet("the run's name in a command (${{name}}); $AZUREML_RUN_ID holds it", place=str(place))
    if kind == "search_space":
        raise NotYet("sweep jobs (${{search_space...}})", place=str(place))
    if kind == "parent":
        raise NotYet("pipelines (${{parent...}})", place=str(place))
    if expression in ("default_datastore", "default_datestore"):
        raise NotYet("datastores (${{default_datastore}})", place=str(place))
    raise BadFile(place, f"the command holds ${{{{{expression}}}}}, which stands for nothing.", code="unknown_expression")
