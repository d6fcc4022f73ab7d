"""Who is picked, by name or folder."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from studio.errors import ModelError
from studio.files import write_json
from studio.serving import speaker


def test_an_adapter_says_that_it_is_its_base_that_is_gone(tmp_path: Path) -> None:
    adapter, base = tmp_path / "adapter", tmp_path / "gone"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "r": 8, "base_model_name_or_path": str(base)})
    save_file({"a": numpy.zeros(1, "float32")}, adapter / "adapter_model.safetensors")
    with pytest.raises(
        ModelError, match=f"{adapter} was trained on a model that cannot be used: {base} is not a folder"
    ):
        speaker.speaker(str(adapter))
