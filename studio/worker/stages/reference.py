"""The model that a preference training is held to: the one before the training, or another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from studio.config.train.precision import WHOLE
from studio.errors import ModelError
from studio.worker import fast, methods
from studio.worker.fast import attention, flat
from studio.worker.methods.adapters import beneath
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting

COPY = "ref"  # as TRL calls it
PROBED = 32  # tokens of a prompt, and of an answer, by which it is proven that rows keep apart


class Referenced(Recorded):
    """Of an adapter that is gone on with, TRL keeps a copy beside it as the reference.

    Batches are computed without their padding where the attention of the model and of its reference can do that.
    """

    is_flat = False
    data_collator: Any

    def recorded(self, setting: Setting) -> Self:
        own = beneath(self.model)
        models = [own, self.ref_model] if self.ref_model else [own]
        is_plain = setting.config.parallel_strategy in WHOLE and not self.aux_loss_enabled
        if is_plain and all(map(attention.is_flat, models)):
            self._lay_flat(setting, models)
        return super().recorded(setting)

    def _paths(self) -> list[fast.Path]:
        return [*super()._paths(), fast.Path("rows", "flat" if self.is_flat else "padded")]

    def _lay_flat(self, setting: Setting, models: list[PreTrainedModel]) -> None:
        for model in models:
            self._lay(model)
        collate = flat.Placing(self.data_collator)
        batch = collate([_shortened(row) for row in setting.data.ends])
        with setting.autocast():
            is_exact = all(flat.is_exact(model, batch) for model in models)
        self.is_flat = not setting.desk.consensus.any(not is_exact)
        if self.is_flat:
            self.data_collator = collate
        else:
            setting.desk.reporter.note("info", "this model's architecture needs padded batches; expect slower steps")

    def _lay(self, model: PreTrainedModel) -> None:
        if model is not self.ref_model:
            return flat.lay(model)
        # by now Accelerate has wrapped it for the precision, which has to stay the outermost
        model.forward = model.__dict__.pop("_original_forward", model.forward)
        flat.lay(model)
        model._is_accelerate_prepared = False
        self.accelerator.prepare_model(model, evaluation_mode=True)

    def tokens_of(self, inputs: Any) -> int:
        """Tokens of a batch that go through the model: without padding where that is not computed."""
        places = [each for name, each in inputs.items() if name.endswith(flat.PLACES)]
        return sum(each.numel() for each in places) or super().tokens_of(inputs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # Trainer reads nothing but subfolders of a checkpoint that has any, and so would forget what was learnt
        shutil.rmtree(Path(output_dir or self.args.output_dir) / COPY, ignore_errors=True)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    return {name: ids[:PROBED] if name.endswith("_ids") else ids for name, ids in row.items()}


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
    attention.skip_masks(model)
    return model.requires_grad_(False).eval()
