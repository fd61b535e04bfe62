"""Why a replica failed, as an event can hold it: a wish that is refused for its text would leave the deployment on its way for ever."""

from __future__ import annotations

from adapters.serving.replica import REASON_CHARS_MAX, storable


def test_a_short_reason_stays_as_it_is() -> None:
    assert storable("init() raised ValueError.\nline") == "init() raised ValueError.\nline"


def test_a_long_reason_keeps_its_beginning_and_its_end() -> None:
    kept = storable(f"The worker ended.\n{'x' * 300_000}\nValueError: last")
    assert len(kept) == REASON_CHARS_MAX
    assert kept.startswith("The worker ended.\n")
    assert kept.endswith("ValueError: last")


def test_what_no_database_keeps_is_replaced() -> None:
    assert storable("a\0b\ud800") == "a\ufffdb?"
