"""The tiny models that merges are tried on, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.merging.bases import KINDS, make_base


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by the kinds of `bases.KINDS`, in float32."""
    return {kind: make_base(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
