"""The log on Apache Kafka: `log.KafkaLog` (core.ports.EventLog and Shards) and `measurements.KafkaMeasurements`.

connection      where the brokers are and how one signs in
administration  topics, settings, access lists, through confluent-kafka's AdminClient, at start only
topics          the two topics with exactly their settings, and what is remembered of them
codec           Sealed <-> a Kafka record (CloudEvents, binary mode)
lease           which server writes which shard
producer        one transaction = one record batch, behind a fence
tail            what the index does not cover yet, in memory
index           what the log holds of streams, chains and command ids, in Postgres
feed            the newest commits of an owned shard, for local followers
reader          committed records by consuming, and at given offsets
owner           one shard: fence, open, group commit, open anew after any error
follower        a subscription over owned and foreign shards
"""
