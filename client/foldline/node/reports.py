"""What the agent tells the server of one attempt. Each is sent until answered; `Stale` when the attempt is not this node's any more."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import urlencode

from foldline.node import journal, points
from foldline.node.http import Answer, Server, quoted


class Stale(Exception):
    """The server counts another attempt: this one is killed and forgotten."""


class Reports:
    """Of one attempt."""

    def __init__(self, server: Server, workspace: str, run: str, attempt: int) -> None:
        self._server = server
        self._home = f"/api/v1/agent/runs/{quoted(run)}"
        self._workspace = f"/api/v1/workspaces/{quoted(workspace)}"
        self.run, self.attempt = run, attempt

    async def started(self, body: dict[str, Any], lock_text: str) -> None:
        digest = hashlib.sha256(lock_text.encode()).hexdigest()
        answer = await self._server.answered("PUT", f"{self._workspace}/blobs/{digest}", body=lock_text.encode())
        await self._post("started", {**body, "attempt": self.attempt, "environment_lock": digest if answer.ok else None})

    async def exited(self, exit_code: int) -> None:
        await self._post("exited", {"attempt": self.attempt, "exit_code": exit_code})

    async def ended(self, body: dict[str, Any]) -> Answer:
        return await self._post("ended", {**body, "attempt": self.attempt})

    async def points(self, source: str, kind: str, sequence: int, data: bytes, complain: Any) -> bytes | None:
        """Sends what these lines of a spool say. `complain(sentence)` hears what the server did not take."""
        parsed = points.parse(data)
        for group in parsed.parameters:
            answer = await self._post("parameters", {"parameters": group}, attempt=self.attempt)
            if not answer.ok:
                complain(answer.sentence)
        for group in parsed.tags:
            await self._post("tags", {"tags": group}, attempt=self.attempt)
        if parsed.refused:
            journal.event("spool.lines_refused", run=self.run, attempt=self.attempt, source=source, lines=parsed.refused)
        if not parsed.value:
            return None
        head = {"attempt": self.attempt, "source": source, "sequence": sequence, "kind": kind}
        body = json.dumps({**head, **parsed.columns()}, separators=(",", ":")).encode()
        await self._checked("POST", f"{self._home}/points", body=body, kind="application/json")
        return body

    async def log(self, source: str, name: str, sequence: int, offset: int, data: bytes) -> bytes:
        query = urlencode({"attempt": self.attempt, "source": source, "sequence": sequence, "name": name, "offset": offset})
        await self._checked("POST", f"{self._home}/log?{query}", body=data)
        return data

    async def _post(self, what: str, data: dict[str, Any], **query: object) -> Answer:
        return await self._checked("POST", f"{self._home}/{what}" + (f"?{urlencode(query)}" if query else ""), data=data)

    async def _checked(self, method: str, path: str, **request: Any) -> Answer:
        """Raises: Stale."""
        while True:
            answer = await self._server.answered(method, path, **request)
            if answer.status == 409 and answer.code == "stale_attempt":
                raise Stale(answer.sentence)
            if answer.status in (401, 403):
                await self._server.pause(self._server.backoff.longest)  # the agent's loop decides whether the node is still one
                continue
            if not answer.ok:
                journal.event("report.refused", run=self.run, attempt=self.attempt, path=path, status=answer.status, said=answer.sentence)
            return answer
