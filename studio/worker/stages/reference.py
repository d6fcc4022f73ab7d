"""The model that a preference training is held to: the one before the training, or another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from studio.errors import ModelError
from studio.worker import methods
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting

COPY = "ref"  # as TRL calls it


class Referenced(Recorded):
    """Of an adapter that is gone on with, TRL keeps a copy beside it as the reference."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # Trainer reads nothing but subfolders of a checkpoint that has any, and so would forget what was learnt
        shutil.rmtree(Path(output_dir or self.args.output_dir) / COPY, ignore_errors=True)


def reference(setting: Setting) -> PreTrainedModel | None:
    """The reference, frozen: another model in the type of the computation, or a copy of this one as it is.

    None where the model is its own reference with the adapter switched off, or with a copy of an adapter that is gone
    on with. A copy in a shorter type would save memory and begin with margins that are not there.

    Raises:
        ModelError: a ref_model that cannot be had, or one that speaks of other tokens.
    """
    model, config = setting.model, setting.config
    if config.ref_model:
        return setting.sharding.consulted(_frozen(_named(setting, config.ref_model)))
    if setting.adapter is not None or isinstance(model, PeftModel):
        return None
    return setting.sharding.consulted(_frozen(setting.sharding.copied(model)))


def _named(setting: Setting, name: str) -> PreTrainedModel:
    folder, model = methods.find(name).path, setting.model
    try:
        other = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=setting.precision,
            attn_implementation=model.config._attn_implementation,
            trust_remote_code=setting.config.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"ref_model {folder} cannot be loaded: {error}") from error
    if other.config.get_text_config().vocab_size != model.config.get_text_config().vocab_size:
        raise ModelError(
            f"ref_model {name} has another vocabulary than {setting.config.model_name_or_path}: take one of its family"
        )
    return other.to(model.device)


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    return model.requires_grad_(False).eval()
