"""What stands beside the weights of a merged model: configuration, tokenizer, templates, settings, processors."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio import models, templates
from studio.files import read_record, write_json, write_text
from studio.worker import outputs

EITHER = (
    *("generation_config.json", "chat_template.jinja"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),  # of models that also see
)


def copy(folder: Path, adapter: Path, target: Path, changes: Mapping[str, Any], template: str | None) -> None:
    """Configuration from the base with `changes`; the rest from the adapter where it has it.

    `template` is the name of the chat template for a model that has none.
    """
    write_json(target / "config.json", {**read_record(folder / "config.json"), **changes})
    has_tokenizer = any((adapter / name).exists() for name in models.TOKENIZER_FILES)
    outputs.copy_tokenizer(adapter if has_tokenizer else folder, target)
    for name in EITHER:
        source = next((place / name for place in (adapter, folder) if (place / name).exists()), None)
        if source:
            shutil.copy2(source, target / name)
    for code in folder.glob("*.py"):  # models that bring their own code do not load without it
        shutil.copy2(code, target / code.name)
    if template and models.chat_template(target) is None:
        write_text(target / "chat_template.jinja", templates.text(template))
