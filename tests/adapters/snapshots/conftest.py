"""A real Postgres for the snapshots."""

from tests.postgres_fixtures import database, dsn, postgres  # noqa: F401
