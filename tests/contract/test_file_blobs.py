"""The store on a local disk under the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.blobs.files import FileBlobs
from tests.contract.blobs import BlobsContract


class TestFileBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> FileBlobs:
        return FileBlobs(tmp_path / "blobs")
