"""A context on temporary folders: what handlers get when the page calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio.settings import ROOT, Settings
from studio.ui.context import Context


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("dataset_info.json", "identity.json", "alpaca_demo.json", "sharegpt_demo.json"):
        shutil.copy(ROOT / "data" / name, data / name)
    return Context.of(Settings(data_dir=data, saves_dir=tmp_path / "saves"))
