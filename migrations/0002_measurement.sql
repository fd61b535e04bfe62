-- The log of measurements: one row per batch of a source, compressed by its sender.

CREATE TABLE measurement (
    shard      integer NOT NULL,
    position   bigint NOT NULL,
    at         timestamptz NOT NULL,
    workspace  text NOT NULL,
    run        text NOT NULL,
    attempt    integer NOT NULL,
    source     text NOT NULL,
    sequence   bigint NOT NULL,
    kind       text NOT NULL,
    body       bytea NOT NULL,
    log_name   text,
    log_offset bigint,
    log_bytes  bigint,
    sha256     text NOT NULL,
    PRIMARY KEY (shard, position)
);
ALTER TABLE measurement ALTER COLUMN body SET STORAGE EXTERNAL;
