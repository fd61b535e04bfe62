"""What the tests of the projections share: a real Postgres, and a runner on the small world."""

from __future__ import annotations

from tests.postgres_fixtures import database, dsn, postgres  # noqa: F401  # fixtures
