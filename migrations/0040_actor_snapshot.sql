-- States of actors between two starts. A cache: dropping it costs a replay, never a fact.
CREATE TABLE actor_snapshot (
    log         text        NOT NULL,
    shard       integer     NOT NULL,
    role        text        NOT NULL,
    version     integer     NOT NULL,
    next_offset bigint      NOT NULL,
    content     bytea       NOT NULL,
    saved_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log, shard, role)
);
