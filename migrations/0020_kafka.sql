-- The Kafka log's own tables: part of the adapter, no read model; no rebuild drops them.

-- The topics that this installation writes to. Another cluster, topic or count under the same name stops the server.
CREATE TABLE kafka_topic (
    name        text PRIMARY KEY,
    cluster     text NOT NULL,
    id          text NOT NULL,
    partitions  integer NOT NULL
);

-- Which server writes which shard: chooses, and is the directory for forwarding. Fencing protects, not this table.
CREATE TABLE shard_lease (
    topic  text NOT NULL,
    shard  integer NOT NULL,
    owner  text NOT NULL,
    url    text NOT NULL,
    epoch  bigint NOT NULL,
    until  timestamptz NOT NULL,
    PRIMARY KEY (topic, shard)
);

-- The log index: what lies below `checkpoint` of a shard is in the three tables that follow.
CREATE TABLE kafka_shard (
    shard       integer PRIMARY KEY,
    checkpoint  bigint NOT NULL
);

CREATE TABLE kafka_stream (
    workspace  text NOT NULL,
    stream     text NOT NULL,
    version    integer NOT NULL,
    at_offset  bigint NOT NULL,
    PRIMARY KEY (workspace, stream, version)
);

-- Where each workspace's chain ends.
CREATE TABLE kafka_head (
    workspace  text PRIMARY KEY,
    sequence   bigint NOT NULL,
    chain      text NOT NULL,
    time       text NOT NULL
);

-- Command ids of the last seven days, each with its request's hash and the records it led to.
CREATE TABLE kafka_command (
    workspace     text NOT NULL,
    command       text NOT NULL,
    request_hash  text NOT NULL,
    first_offset  bigint NOT NULL,
    records       integer NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (workspace, command)
);
CREATE INDEX kafka_command_at ON kafka_command (at);
