-- How far each table of a read model is, and where one had to stop. The tables themselves are made by the projections, since
-- their version is part of their name and a rebuild makes them anew; the generation grows when it does.

CREATE TABLE read_model_checkpoint (
    table_name   text NOT NULL,
    shard        integer NOT NULL,
    log          text NOT NULL,
    next_offset  bigint NOT NULL,
    generation   integer NOT NULL DEFAULT 1,
    PRIMARY KEY (table_name, shard)
);

-- An event that a read model could not fold: the model stands still there for that workspace until it is rebuilt.
CREATE TABLE read_model_stopped (
    table_name   text NOT NULL,
    workspace    text NOT NULL,
    shard        integer NOT NULL,
    at_offset    bigint NOT NULL,
    event        text NOT NULL,
    problem      text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, workspace)
);
