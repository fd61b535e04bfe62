"""Postgres: the embedded server, migrations, the event log, measurements and people.

embedded (its life) · cluster (its files) · postmaster (its process) · pool · migrations · log, shard, statements (the event
log) · measurements · people
"""
