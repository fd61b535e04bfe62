"""Answers printed: json, table, tsv, yaml; narrowed by a JMESPath query."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foldline import configuration
from foldline.answers import plain
from foldline.cli.options import Common
from foldline.problems import BadInput

Columns = Mapping[str, str | Callable[[dict[str, Any]], Any]]
"""Heading → field, or a function of the item."""


def show(answer: Any, common: Common, columns: Columns | None = None) -> None:
    """Prints an answer. `columns` are a table's; without them every field is a line of its own."""
    data = plain(answer)
    form = common.output or ("json" if common.query else _default_form())
    if common.query:
        data = _queried(data, common.query)
    elif form == "table" and columns is not None:
        items = data if isinstance(data, list) else [data]
        data = [{heading: _field(item, field) for heading, field in columns.items()} for item in items]
    sys.stdout.write({"json": _json, "yaml": _yaml, "tsv": _tsv, "table": _table}[form](data))
    sys.stdout.flush()


def wants_table(common: Common) -> bool:
    """Whether a person reads the answer."""
    return common.output in (None, "table") and not common.query and _default_form() == "table"


def _default_form() -> str:
    form = configuration.load(os.environ).output or "table"
    return form if form in ("table", "json", "tsv", "yaml") else "table"


def _queried(data: Any, query: str) -> Any:
    import jmespath

    try:
        return jmespath.search(query, data)
    except jmespath.exceptions.JMESPathError as error:
        raise BadInput(f"--query: {str(error).splitlines()[0]}", code="bad_query") from None


def _field(item: dict[str, Any], field: str | Callable[[dict[str, Any]], Any]) -> Any:
    return item.get(field) if isinstance(field, str) else field(item)


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _yaml(data: Any) -> str:
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _tsv(data: Any) -> str:
    rows = data if isinstance(data, list) else [data]
    return "".join("\t".join(_flat(cell) for cell in _cells(row)) + "\n" for row in rows)


def _cells(row: Any) -> Sequence[Any]:
    if isinstance(row, dict):
        return list(row.values())
    return row if isinstance(row, list) else [row]


def _flat(cell: Any) -> str:
    return _word(cell).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _word(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else str(cell)


def _table(data: Any) -> str:
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return table([list(data[0])] + [[_word(cell) for cell in row.values()] for row in data]) if data else "Nothing there.\n"
    if isinstance(data, dict):
        return "".join(f"{key:<28} {_visible(_word(value)) if value not in (None, {}, [], '') else '-'}\n" for key, value in data.items())
    return "".join(_visible(_word(item)) + "\n" for item in (data if isinstance(data, list) else [data]))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first row is the heading."""
    shown = [[_visible(cell) for cell in row] for row in rows]
    widths = [max(_width(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = ["  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]) + "\n"


def _visible(text: str) -> str:
    """Text of others, harmless in a terminal: control characters become a space."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cf") else char for char in text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1 for char in text)
