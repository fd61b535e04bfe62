-- The event log of the Postgres adapter, and what every log shares. Positions are gapless: they are given out by the row in
-- `shard` that is updated in the transaction of each commit, which is lock and fence at once.

CREATE TABLE installation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id       text NOT NULL
);

-- Every log that this database knows: `postgres`, `measurements`, `kafka` ... and the facts that must not change.
CREATE TABLE log (
    name   text PRIMARY KEY,
    id     text NOT NULL UNIQUE,
    shards integer NOT NULL CHECK (shards > 0),
    facts  jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE shard (
    log    text NOT NULL REFERENCES log (name),
    shard  integer NOT NULL,
    epoch  bigint NOT NULL DEFAULT 0,   -- goes up when another server takes the shard
    opened bigint NOT NULL DEFAULT 0,   -- goes up whenever it is opened: the fence of every commit
    head   bigint NOT NULL DEFAULT 0,   -- the next position
    PRIMARY KEY (log, shard)
) WITH (fillfactor = 20);

CREATE TABLE event (
    shard      integer NOT NULL,
    position   bigint NOT NULL,
    last       bigint NOT NULL,          -- position of the last record of the same commit
    workspace  text NOT NULL,
    stream     text NOT NULL,
    version    bigint NOT NULL,
    sequence   bigint NOT NULL,
    attributes text NOT NULL,            -- CloudEvents attributes as a JSON object of texts, as they were sealed
    value      bytea NOT NULL,           -- the event as JSON, byte for byte as it was sealed
    PRIMARY KEY (shard, position)
);
CREATE UNIQUE INDEX event_stream ON event (workspace, stream, version);
CREATE UNIQUE INDEX event_sequence ON event (workspace, sequence);

-- Command ids of the last days: the same command again answers what it recorded.
CREATE TABLE command (
    workspace    text NOT NULL,
    command      text NOT NULL,
    request_hash text NOT NULL,
    shard        integer NOT NULL,
    first        bigint NOT NULL,
    last         bigint NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (workspace, command)
);
CREATE INDEX command_at ON command USING brin (at);
