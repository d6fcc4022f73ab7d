"""The process that makes the checkpoint: what it cannot do is told in its own words."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from studio import models
from studio.errors import ModelError, ServingError
from studio.serving.benchmark import int8


def test_a_model_that_is_not_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gone is not on this machine: download it first, or give its folder"):
        asyncio.run(int8.write(str(tmp_path / "gone"), tmp_path / "int8"))


def test_why_a_model_cannot_be_quantised_is_told(tmp_path: Path) -> None:
    folder = shutil.copytree(models.folder_of("seedling"), tmp_path / "four")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(ServingError, match=r"It could not be quantised: .*four is quantised already"):
        asyncio.run(int8.write(str(folder), tmp_path / "int8"))
    assert not (tmp_path / "int8").exists()
