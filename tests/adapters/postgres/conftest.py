"""A database for each test."""

from __future__ import annotations

from tests.postgres_fixtures import database, dsn, postgres  # noqa: F401  # fixtures
