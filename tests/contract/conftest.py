"""What the contract suites share."""

from __future__ import annotations

import pytest

from tests.postgres_fixtures import database, dsn, postgres  # noqa: F401  # fixtures

pytest.register_assert_rewrite("tests.contract.event_log", "tests.contract.measurements", "tests.contract.vault", "tests.contract.blobs")
