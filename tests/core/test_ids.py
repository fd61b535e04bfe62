"""Names, positions and ids."""

from __future__ import annotations

import pytest

from core.ids import Position, WorkspaceId, derived_command, is_name, shard_of, uuid7, uuid7_unix_ms


@pytest.mark.parametrize("name", ["a", "digits", "Team_1", "a.b-c", "x" * 255])
def test_a_name_of_letters_digits_and_a_few_signs_is_one(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "../a", "a/b", "a b", "a\n", "é", "a\x00", "-a", "x" * 256])
def test_what_could_climb_or_hide_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_a_position_is_what_its_token_says() -> None:
    position = Position("kafka:abc", 3, 42)
    assert Position.parse(position.token()) == position


@pytest.mark.parametrize("token", ["", "a", "a:b", ":1:2", "a:b:c", "a:1:x", "x" * 201 + ":1:2"])
def test_a_token_that_is_none_of_ours_is_refused(token: str) -> None:
    with pytest.raises(ValueError):
        Position.parse(token)


def test_a_command_id_holds_its_time() -> None:
    made = uuid7(1_790_000_000_123, b"\x00" * 10)
    assert uuid7_unix_ms(made) == 1_790_000_000_123
    assert made < uuid7(1_790_000_000_124, b"\x00" * 10)
    assert uuid7_unix_ms("not-a-uuid") is None
    assert uuid7_unix_ms("550e8400-e29b-41d4-a716-446655440000") is None


def test_an_actors_same_wish_about_the_same_state_has_the_same_id() -> None:
    assert derived_command("scheduler", "run/a", 1, "") == derived_command("scheduler", "run/a", 1, "")
    others = [("node", "run/a", 1, ""), ("scheduler", "run/b", 1, ""), ("scheduler", "run/a", 2, ""), ("scheduler", "run/a", 1, "x")]
    assert len({derived_command(*one) for one in others} | {derived_command("scheduler", "run/a", 1, "")}) == 5


def test_a_workspace_stays_in_its_shard_for_ever() -> None:
    assert [shard_of(WorkspaceId(name), 16) for name in ("system", "ws-0123456789ab", "ws-ba9876543210")] == [12, 0, 11]
