"""What a read model is: a table with its version, the keys that an item of the log touches, and a fold. All of it pure.

An *item* is a `core.events.Recorded` (topic `events`) or a `core.ports.Measured` (topic `measurements`); a model folds one topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar

import msgspec

from core.events import Event, Recorded
from core.ports import Measured

Topic = Literal["events", "measurements"]
Key = tuple[Any, ...]
Item = Recorded | Measured
Row = TypeVar("Row")

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Where the rows of a read model live. Its version is in its name: a changed shape or fold is a new version, never an ALTER."""

    name: str
    version: int
    row: Callable[..., Row]
    """The dataclass of a row; its fields are the columns, in this order."""
    key: tuple[str, ...]
    columns: Mapping[str, str]
    """Column -> SQL type. A `jsonb` column holds plain lists, dicts, texts and numbers in the row."""
    indexes: tuple[str, ...] = ()
    """What follows `CREATE INDEX ON <table>`."""
    fill_percent: int = 70
    """How full pages are made: with room beside it, a changed row needs no change of its indexes. 100 where rows never change."""

    @property
    def sql_name(self) -> str:
        return f"{self.name}_{self.version}"

    @property
    def selected(self) -> str:
        """The columns as `rows_of` wants them in a SELECT."""
        return ", ".join(f"{name}::text" if kind == "jsonb" else name for name, kind in self.columns.items())

    def selected_from(self, alias: str) -> str:
        return ", ".join(f"{alias}.{name}::text" if kind == "jsonb" else f"{alias}.{name}" for name, kind in self.columns.items())

    @cached_property
    def _values(self) -> Callable[[Row], tuple[Any, ...]]:
        return attrgetter(*self.columns)

    def changed(self, row: Row, **changes: Any) -> Row:
        """Another row with these columns changed: `dataclasses.replace`, three times as fast, which a replay feels."""
        new = self.row(*self._values(row))
        for name, value in changes.items():
            setattr(new, name, value)
        return new

    def row_of(self, record: Sequence[Any]) -> Row:
        """The row behind a record that was selected with `selected`."""
        jsonb = _jsonb_places(self)
        if not jsonb:
            return self.row(*record)
        values = list(record)
        for place in jsonb:
            if values[place] is not None:
                values[place] = _from_json(values[place])
        return self.row(*values)

    def rows_of(self, records: Iterable[Sequence[Any]]) -> list[Row]:
        return [self.row_of(record) for record in records]


@dataclass(frozen=True)
class ReadModel(Generic[Row]):
    """One read model.

    `facts(item)` names each row that the item touches, with what is to be folded into it; `fold(row, fact)` is the row after
    it, None when there is none (any more). `spill(row)` hands over what the row has grown out of, as rows of `side` that are
    written once and never read by the fold.
    """

    table: Table[Row]
    facts: Callable[[Any], Sequence[tuple[Key, Any]]]
    fold: Callable[[Row | None, Any], Row | None]
    topic: Topic = "events"
    hears: frozenset[type[Event]] | None = None
    """The events that touch it; None: all."""
    insert_only: bool = False
    """Each row comes from one item and never changes, so it need not be loaded, and is written by COPY. No jsonb columns."""
    spill: Callable[[Row], tuple[Row, Sequence[Any]]] | None = None
    side: Table[Any] | None = None

    @property
    def name(self) -> str:
        return self.table.name


def keyed(key_of: Callable[[Recorded], Key]) -> Callable[[Recorded], Sequence[tuple[Key, Recorded]]]:
    """The facts of a model whose fold takes the recorded event itself, and of which an event touches one row."""

    def facts(recorded: Recorded) -> Sequence[tuple[Key, Recorded]]:
        return ((key_of(recorded), recorded),)

    return facts


@dataclass(frozen=True)
class Statements:
    """The SQL of one table under one name; a rebuild uses the same under another."""

    create: str
    drop: str
    load: str
    upsert: str
    delete: str
    sent: Callable[[Sequence[Any]], Sequence[Any]] = field(repr=False)
    """Rows -> the parameters of `upsert`."""
    records_of: Callable[[Iterable[Any]], Iterable[Sequence[Any]]] = field(repr=False)
    """Rows -> records, for COPY; of tables without jsonb."""


def statements(table: Table[Any], name: str) -> Statements:
    """One statement for many rows, whatever their number."""
    columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
    key = ", ".join(table.key)
    source, sent = _by_columns(table) if "bytea" in table.columns.values() else _as_json(table)
    changed = ", ".join(f"{column} = EXCLUDED.{column}" for column in table.columns if column not in table.key)
    keys = ", ".join(f"${place}::{table.columns[column]}[]" for place, column in enumerate(table.key, 1))
    same = " AND ".join(f"t.{column} = k.{column}" for column in table.key)
    indexes = "".join(f"CREATE INDEX ON {name} {index};\n" for index in table.indexes)
    return Statements(
        create=f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) WITH (fillfactor = {table.fill_percent});\n{indexes}",
        drop=f"DROP TABLE IF EXISTS {name}",
        load=f"SELECT {table.selected_from('t')} FROM {name} t JOIN UNNEST({keys}) AS k({key}) ON {same}",  # noqa: S608  names of ours
        upsert=(
            f"INSERT INTO {name} ({', '.join(table.columns)}) {source} "
            f"ON CONFLICT ({key}) DO {'UPDATE SET ' + changed if changed else 'NOTHING'}"
        ),
        delete=f"DELETE FROM {name} t USING UNNEST({keys}) AS k({key}) WHERE {same}",  # noqa: S608
        sent=sent,
        records_of=partial(map, attrgetter(*table.columns)),
    )


def _as_json(table: Table[Any]) -> tuple[str, Callable[[Sequence[Any]], Sequence[Any]]]:
    """All rows as one JSON text, which costs this process a tenth of what arrays of each column do."""
    shape = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
    source = f"SELECT * FROM json_to_recordset($1::text::json) AS u({shape})"  # noqa: S608
    return source, lambda rows: (_to_json(rows).decode(),)


def _by_columns(table: Table[Any]) -> tuple[str, Callable[[Sequence[Any]], Sequence[Any]]]:
    """One array per column: for bytes, and for floats that JSON cannot carry."""
    parameters = ", ".join(f"${place}::{'text' if kind == 'jsonb' else kind}[]" for place, kind in enumerate(table.columns.values(), 1))
    values = ", ".join(f"u.{column}::jsonb" if kind == "jsonb" else f"u.{column}" for column, kind in table.columns.items())
    source = f"SELECT {values} FROM UNNEST({parameters}) AS u({', '.join(table.columns)})"  # noqa: S608
    getter = attrgetter(*table.columns)
    jsonb = _jsonb_places(table)

    def columns(rows: Sequence[Any]) -> list[list[Any]]:
        turned = [list(column) for column in zip(*map(getter, rows), strict=True)]
        for place in jsonb:
            turned[place] = [None if value is None else _to_json(value).decode() for value in turned[place]]
        return turned

    return source, columns


def _jsonb_places(table: Table[Any]) -> list[int]:
    return [place for place, kind in enumerate(table.columns.values()) if kind == "jsonb"]
