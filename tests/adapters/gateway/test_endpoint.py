"""An endpoint as its callers know it: Envoy, sandboxed replicas, updates and accidents under load."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from tests.adapters.serving.kit import ECHO, WORKSPACE, Kit, Opened, route, worker_pid

CALLERS = 8


class Load:
    """Callers that ask without a pause, and what they were answered."""

    def __init__(self) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.over = False
        self._moved = asyncio.Condition()

    async def caller(self, client: httpx2.AsyncClient) -> None:
        while not self.over:
            try:
                answer = await client.post("score", content="1")
                key = answer.json()["version"] if answer.status_code == 200 else f"{answer.status_code} {answer.json().get('cause')}"
            except httpx2.TransportError as error:
                key = repr(error)
            self.answers[key] += 1
            async with self._moved:
                self._moved.notify_all()

    async def more(self, count: int, key: str | None = None) -> None:
        """Waits until so many more were answered (so: with `key`)."""
        def total() -> int:
            return self.answers.total() if key is None else self.answers[key]

        wanted = total() + count
        async with asyncio.timeout(30), self._moved:
            await self._moved.wait_for(lambda: total() >= wanted)


@asynccontextmanager
async def load(opened: Opened) -> AsyncIterator[Load]:
    made = Load()
    async with opened.client() as client, asyncio.TaskGroup() as tasks:
        for _ in range(CALLERS):
            tasks.create_task(made.caller(client))
        try:
            yield made
        finally:
            made.over = True


async def test_a_rolling_update_under_load_fails_no_request(kit: Kit, opened: Opened) -> None:
    old = await opened.run(await kit.order("old-1", version="1"), await kit.order("old-2", version="1"))
    await opened.gateway.apply([route(("blue", 100, [status.address for status in old]))])
    async with load(opened) as asked:
        await asked.more(100, "1")
        new = await opened.run(await kit.order("new-1", version="2"), await kit.order("new-2", version="2"))
        assert [status.phase for status in new] == ["ready", "ready"]
        await opened.gateway.apply([route(("blue", 100, [status.address for status in new]))])
        async with asyncio.TaskGroup() as stopping:
            for replica in ("old-1", "old-2"):
                stopping.create_task(opened.pool.stop(WORKSPACE, replica, 1, 10))
        before = asked.answers["1"]
        await asked.more(100, "2")
        assert asked.answers["1"] == before
    assert set(asked.answers) == {"1", "2"}
    assert [status.replica for status in await opened.pool.list()] == ["new-1", "new-2"]


async def test_traffic_moves_step_by_step_without_a_failed_request(kit: Kit, opened: Opened) -> None:
    blue, green = await opened.run(await kit.order("b", version="1"), await kit.order("g", version="2", deployment="green"))
    async def share_out(green_share: int) -> None:
        await opened.gateway.apply([route(("blue", 100 - green_share, [blue.address]), ("green", green_share, [green.address]))])

    await share_out(0)
    async with load(opened) as asked:
        for green_share in (0, 10, 50, 90, 100):
            await share_out(green_share)
            await asked.more(50)
        await asked.more(50, "2")
    assert set(asked.answers) == {"1", "2"}


async def test_a_replica_killed_under_load_costs_at_most_what_it_had_in_work(kit: Kit, opened: Opened) -> None:
    statuses = await opened.run(await kit.order("r1"), await kit.order("r2"))
    await opened.gateway.apply([route(("blue", 100, [status.address for status in statuses]))])
    async with load(opened) as asked:
        await asked.more(100)
        supervisor = opened.pid("r1")
        assert supervisor is not None
        os.kill(worker_pid(supervisor), signal.SIGKILL)
        await opened.until("r1", lambda status: status.phase == "failed")
        await asked.more(100)
        failed = asked.answers.total() - asked.answers["1"]
        assert failed <= CALLERS
        (again,) = await opened.run(await kit.order("r1"))
        assert again.phase == "ready"
        await asked.more(100)
        assert asked.answers.total() - asked.answers["1"] == failed


async def test_a_restart_of_the_server_is_not_noticed_by_callers(kit: Kit) -> None:
    async with kit.opened() as first:
        statuses = await first.run(await kit.order("r1", ECHO))
        await first.gateway.apply([route(("blue", 100, [statuses[0].address]))])
        envoy, replica = first.gateway.pid, first.pid("r1")
        caller = load(first)
        asked = await caller.__aenter__()
        await asked.more(50)
    await asked.more(50)
    async with kit.opened() as second:
        assert (second.gateway.pid, second.pid("r1")) == (envoy, replica)
        (status,) = await second.pool.list()
        assert status.phase == "ready"
        await second.gateway.apply([route(("blue", 100, [status.address]))])
        await asked.more(50)
        await caller.__aexit__(None, None, None)
    assert set(asked.answers) == {"1"}


async def test_the_endpoint_answers_for_a_script_that_raises(kit: Kit, opened: Opened) -> None:
    (status,) = await opened.run(await kit.order("r1", "def init(): pass\ndef run(raw):\n    raise KeyError('secret column')\n"))
    await opened.gateway.apply([route(("blue", 100, [status.address]))])
    async with opened.client() as client:
        answers = [await client.post("score", content="1", headers={"x-request-id": f"q-{n}"}) for n in range(10)]
        assert (await client.get("")).text == "Healthy"
    assert {answer.status_code for answer in answers} == {500}
    assert answers[3].json()["request_id"] == answers[3].headers["x-request-id"] == answers[3].headers["x-ms-request-id"] == "q-3"
    assert "secret" not in answers[0].text
    assert any("secret column" in line for line in await opened.pool.logs(WORKSPACE, "digits", "blue", 100))
