import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PUBLIC = Path(__file__).resolve().parents[3] / "shared" / "data" / "llamafactory"


@pytest.fixture(scope="session")
def public_data() -> Path:
    """LLaMA-Factory's demo files, unchanged."""
    if not (PUBLIC / "dataset_info.json").is_file():
        pytest.skip(f"LLaMA-Factory's public demo files are not in {PUBLIC}")
    return PUBLIC


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a file to upload: bytes and text as they are, other values as JSON (one a line in a .jsonl)."""

    def write_file(name: str, content: Any) -> Path:
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, bytes):
            lines = content if name.endswith(".jsonl") else [content]
            content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
        path.write_bytes(content)
        return path

    return write_file
