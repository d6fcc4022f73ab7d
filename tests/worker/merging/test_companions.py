"""What stands beside merged weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.files import write_json
from studio.worker.merging import companions


@pytest.mark.parametrize(
    "name", [f"{kind}_config.json" for kind in ("preprocessor", "processor", "video_preprocessor")]
)
def test_a_model_that_sees_keeps_its_processors(tmp_path: Path, name: str) -> None:
    base, adapter, target = (tmp_path / part for part in ("base", "adapter", "target"))
    for folder in (base, adapter, target):
        folder.mkdir()
    write_json(base / "config.json", {"model_type": "gemma3"})
    write_json(base / name, {"size": 16})
    companions.copy(base, adapter, target, {}, None)
    assert (target / name).read_bytes() == (base / name).read_bytes()
