"""What every store of blobs promises. A test class subclasses this and gives a fixture `blobs`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence

import pytest

from core.errors import EventTooLarge, Invalid, NotFound
from core.ids import WorkspaceId
from core.ports import Blobs

W1, W2 = WorkspaceId("ws-one"), WorkspaceId("ws-two")
MANY = bytes(range(256)) * 5000
NOT_DIGESTS = (
    "", "a" * 63, "a" * 65, "A" * 64, "../../etc/passwd", "/etc/passwd", "a" * 32 + "/" + "a" * 31, "a" * 63 + "\0", "é" * 64,
    "a" * 64 + "\n",
)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def stream(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def cut_off(first: bytes) -> AsyncGenerator[bytes, None]:
    yield first
    raise ConnectionResetError("the client went away")


async def all_of(blobs: Blobs, workspace: WorkspaceId, name: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.open(workspace, name, start, length)])


class BlobsContract:
    async def test_what_was_put_is_read_back(self, blobs: Blobs) -> None:
        assert await blobs.put(W1, digest(MANY), stream(MANY[:100], MANY[100:]), 10**9) == len(MANY)
        assert await all_of(blobs, W1, digest(MANY)) == MANY
        assert await blobs.size(W1, digest(MANY)) == len(MANY)
        assert await blobs.read_bytes(W1, digest(MANY)) == MANY

    async def test_an_empty_file_is_a_file(self, blobs: Blobs) -> None:
        assert await blobs.put(W1, digest(b""), stream(), 0) == 0
        assert await all_of(blobs, W1, digest(b"")) == b""
        assert await blobs.size(W1, digest(b"")) == 0

    async def test_parts_can_be_read(self, blobs: Blobs) -> None:
        name = await blobs.put_bytes(W1, MANY)
        assert await all_of(blobs, W1, name, 1000) == MANY[1000:]
        assert await all_of(blobs, W1, name, 300_000, 600_000) == MANY[300_000:900_000]
        assert await all_of(blobs, W1, name, len(MANY), 5) == b""
        assert await all_of(blobs, W1, name, 5, 0) == b""

    async def test_content_of_another_digest_is_refused_and_leaves_nothing(self, blobs: Blobs) -> None:
        with pytest.raises(Invalid):
            await blobs.put(W1, digest(b"right"), stream(b"wrong"), 100)
        assert await blobs.size(W1, digest(b"right")) is None
        assert await blobs.size(W1, digest(b"wrong")) is None

    async def test_content_over_the_limit_is_refused_and_leaves_nothing(self, blobs: Blobs) -> None:
        with pytest.raises(EventTooLarge):
            await blobs.put(W1, digest(MANY), stream(MANY), len(MANY) - 1)
        assert await blobs.size(W1, digest(MANY)) is None
        with pytest.raises(EventTooLarge):
            await blobs.read_bytes(W1, await blobs.put_bytes(W1, MANY), bytes_max=10)

    async def test_a_body_cut_off_leaves_nothing(self, blobs: Blobs) -> None:
        with pytest.raises(ConnectionResetError):
            await blobs.put(W1, digest(b"whole"), cut_off(b"who"), 100)
        assert await blobs.size(W1, digest(b"whole")) is None

    async def test_the_same_content_twice_is_one_blob(self, blobs: Blobs) -> None:
        assert await blobs.put_bytes(W1, b"same") == await blobs.put_bytes(W1, b"same") == digest(b"same")
        assert await blobs.read_bytes(W1, digest(b"same")) == b"same"

    async def test_another_workspace_has_not_got_it(self, blobs: Blobs) -> None:
        name = await blobs.put_bytes(W1, b"mine")
        assert await blobs.missing(W2, [name]) == [name]
        assert await blobs.size(W2, name) is None
        with pytest.raises(NotFound):
            await blobs.read_bytes(W2, name)

    async def test_missing_names_those_that_are_not_there(self, blobs: Blobs) -> None:
        there = await blobs.put_bytes(W1, b"there")
        asked: Sequence[str] = [digest(b"x"), there, digest(b"y"), digest(b"x")]
        assert await blobs.missing(W1, asked) == [digest(b"x"), digest(b"y")]
        assert await blobs.missing(W1, []) == []

    async def test_what_is_not_there_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFound):
            await all_of(blobs, W1, digest(b"never"))
        assert await blobs.size(W1, digest(b"never")) is None

    @pytest.mark.parametrize("wrong", NOT_DIGESTS)
    async def test_what_is_no_digest_is_refused_everywhere(self, blobs: Blobs, wrong: str) -> None:
        with pytest.raises(Invalid):
            await blobs.missing(W1, [wrong])
        with pytest.raises(Invalid):
            await blobs.put(W1, wrong, stream(b"x"), 10)
        with pytest.raises(Invalid):
            await all_of(blobs, W1, wrong)
        with pytest.raises(Invalid):
            await blobs.size(W1, wrong)
        with pytest.raises(Invalid):
            await blobs.read_bytes(W1, wrong)

    @pytest.mark.parametrize("wrong", ["", "..", "../ws-two", "ws/one", ".incoming", "ws\0", "ws-one\n"])
    async def test_what_is_no_workspace_is_refused(self, blobs: Blobs, wrong: str) -> None:
        with pytest.raises(Invalid):
            await blobs.size(WorkspaceId(wrong), digest(b"x"))
        with pytest.raises(Invalid):
            await blobs.put(WorkspaceId(wrong), digest(b"x"), stream(b"x"), 10)
