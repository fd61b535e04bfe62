"""The SQL of the event log: the only place that names its tables."""

from __future__ import annotations

LOG = "postgres"
"""The name of the event log's row in the table `log`, and of its rows in `shard`; the statements below say it again."""

CHANNEL_HEAD = "foldline_log_head"
"""Payload `<shard>:<head>` with each commit."""
CHANNEL_TAKEN = "foldline_log_taken"
"""Payload `<shard>:<epoch>` when a server takes a shard."""

MAKE_INSTALLATION = "INSERT INTO installation (id) VALUES ($1) ON CONFLICT DO NOTHING"
READ_INSTALLATION = "SELECT id FROM installation"
MAKE_LOG = "INSERT INTO log (name, id, shards) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING"
MAKE_SHARDS = """
INSERT INTO shard (log, shard) SELECT name, generate_series(0, shards - 1) FROM log WHERE name = $1 ON CONFLICT DO NOTHING"""
READ_LOG = "SELECT id, shards FROM log WHERE name = $1"
ENDS = "SELECT shard, head FROM shard WHERE log = $1 ORDER BY shard"

TAKE = """
WITH taken AS (
    UPDATE shard SET epoch = epoch + 1, opened = opened + 1 WHERE log = 'postgres' AND shard = $1 RETURNING epoch, opened, head)
SELECT epoch, opened, head, pg_notify('foldline_log_taken', $1 || ':' || epoch) FROM taken"""
"""Waits for a commit that is under way, and fences every server that had the shard."""

OPEN_AGAIN = """
UPDATE shard SET opened = opened + 1 WHERE log = 'postgres' AND shard = $1 AND epoch = $2 RETURNING epoch, opened, head"""
"""After a failure: waits for what is left of our own commit, and fences it. No row: another server has the shard."""

COMMIT = """
WITH fence AS (
    UPDATE shard SET head = head + $4 WHERE log = 'postgres' AND shard = $1 AND opened = $2 AND head = $3 RETURNING head),
events AS (
    INSERT INTO event (shard, position, last, workspace, stream, version, sequence, attributes, value)
    SELECT $1, one.* FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bytea[])
        AS one WHERE EXISTS (SELECT FROM fence)),
commands AS (
    INSERT INTO command (workspace, command, request_hash, shard, first, last, at)
    SELECT one.workspace, one.command, one.hash, $1, one.first, one.last, $18
    FROM unnest($13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[])
        AS one (workspace, command, hash, first, last) WHERE EXISTS (SELECT FROM fence))
SELECT head, pg_notify('foldline_log_head', $1 || ':' || head) FROM fence"""
"""One statement, so one round trip and one transaction. No row: fenced, and nothing was written."""

VERSIONS = """
SELECT workspace, stream, (SELECT max(version) FROM event e WHERE e.workspace = k.workspace AND e.stream = k.stream) AS version
FROM unnest($1::text[], $2::text[]) AS k (workspace, stream)"""
HEADS = """
SELECT k.workspace, e.sequence, e.attributes
FROM unnest($1::text[]) AS k (workspace)
CROSS JOIN LATERAL (SELECT sequence, attributes FROM event e WHERE e.workspace = k.workspace ORDER BY sequence DESC LIMIT 1) AS e"""
COMMANDS = """
SELECT c.workspace, c.command, c.request_hash, c.shard, c.first, c.last
FROM unnest($1::text[], $2::text[]) AS k (workspace, command) JOIN command c USING (workspace, command)"""
FORGET_COMMANDS = "DELETE FROM command WHERE at < $1"

READ_STREAM = """
SELECT shard, position, attributes, value FROM event WHERE workspace = $1 AND stream = $2 AND version > $3 ORDER BY version"""
READ_RANGE = """
SELECT shard, position, last, attributes, value FROM event WHERE shard = $1 AND position >= $2 AND position < $3
ORDER BY position LIMIT $4"""
