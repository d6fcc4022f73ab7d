"""Learning to go on as the rows do: answers of conversations, or text as such.

The rows of a batch are laid end to end in one sequence (no padding), positions start over at each row, and the
attention mask built from them keeps rows apart. Not every architecture honours that, so it is tried on the model
before training, and batches are padded where it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import mul
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker.encode import IGNORED
from studio.worker.samples import evaluating
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting, arguments

LENGTHS = "row_lengths"
ISOLATION_TOLERANCE = 0.05  # of the logits' spread, on average: measured 0.002 for bfloat16, 0.2 for a leak


class SupervisedTrainer(Recorded, SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """Supervised fine-tuning. A validation is a mean over its tokens, however they lie in batches."""

    _tokens: list[int]  # that count, of each batch validated so far
    _losses: list[float]

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        for batch in batch_samples:
            self._blank_repeats(batch, is_last=batch is batch_samples[-1])
        return super()._get_num_items_in_batch(batch_samples, device)

    def _blank_repeats(self, batch: dict[str, Any], is_last: bool = True) -> None:
        """Of the last batches of several processes, which rows from the beginning fill up, those count for nothing."""
        lengths = batch.pop(LENGTHS, None)
        if lengths is None or not is_last or not self.accelerator.gradient_state.end_of_dataloader:
            return
        rows = len(lengths)
        if (remainder := self._remainder(rows)) <= 0:
            return
        own = min(max(remainder - self.accelerator.process_index * rows, 0), rows)
        if batch["labels"].shape[0] == rows:
            batch["labels"][own:] = IGNORED
        else:  # laid end to end
            batch["labels"][:, int(lengths[:own].sum()) :] = IGNORED

    def _remainder(self, rows: int) -> int:
        """How many rows are left for the last batches, of so many `rows` for each process. Accelerate does not know it
        in the epoch that a resumed training begins in."""
        state, world = self.accelerator.gradient_state, self.accelerator.num_processes
        dataset = state.active_dataloader.dataset
        if world == 1 or not isinstance(dataset, Dataset):
            return int(state.remainder)
        return int(len(dataset) % (rows * world))

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **keys: Any) -> EvalLoopOutput:
        self._tokens, self._losses = [], []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **keys)
        output.metrics[f"{metric_key_prefix}_loss"] = self._by_token(self._losses)
        for name, values in self._metrics["eval"].items():
            if len(values) == len(self._tokens):
                self._metrics["eval"][name] = [self._by_token(values)]
        return output

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **keys: Any) -> tuple[Any, Any, Any]:
        self._blank_repeats(inputs)
        loss, logits, labels = super().prediction_step(model, inputs, *args, **keys)
        self._tokens.append(int((inputs["labels"][:, 1:] != IGNORED).sum()))
        self._losses.append(float(loss) if self._tokens[-1] else 0.0)
        return loss, logits, labels

    def _by_token(self, values: list[float]) -> float:
        sums = [sum(map(mul, values, self._tokens)), float(sum(self._tokens))]
        total, tokens = self.accelerator.reduce(torch.tensor(sums, device=self.args.device), "sum").tolist()
        return float(total / tokens)


def build(setting: Setting) -> Recorded:
    """The trainer of a supervised fine-tuning.

    Raises:
        ModelError: rows are to be packed for a model that would let them see each other.
    """
    config = setting.config
    with setting.autocast(), setting.sharding.computing(setting.model):
        apart = keeps_rows_apart(setting.model, *(row["input_ids"] for row in setting.data.ends))
    # where the first process alone has read the weights, it alone can tell
    flat = not setting.desk.consensus.any(setting.desk.rank.is_first and not apart)
    if not flat:
        _pad_instead(setting)
    packs = flat and (config.packing or config.stage == "pt")
    args = SFTConfig(
        **arguments(setting),
        padding_free=flat,
        **_loss(config),
        max_length=None,  # rows are cut already
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = setting.data
    rows = pack_dataset(data.train, data.cutoff_len, "bfd") if packs else data.train
    parts = {**setting.parts, "train_dataset": rows, "compute_loss_func": spread_loss(config)}
    trainer = SupervisedTrainer(args=args, **parts)
    if setting.desk.rank.world > 1:
        trainer.data_collator = _telling_lengths(trainer.data_collator)
    return trainer.recorded(setting)


def _telling_lengths(collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`collate`, whose batches say how many tokens each of their rows has: see _blank_repeats."""

    def telling(rows: list[dict[str, Any]]) -> dict[str, Any]:
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        return {**collate(rows), LENGTHS: lengths}

    return telling


def _loss(config: TrainConfig) -> dict[str, Any]:
    if config.z_loss_coef:
        return {}  # see spread_loss
    return {
        "label_smoothing_factor": config.label_smoothing_factor,
        "loss_type": "dft" if config.use_dft_loss else "nll",
    }


def spread_loss(config: TrainConfig) -> Callable[..., torch.Tensor] | None:
    """The configured loss with the z-loss (arXiv 2204.02311, 5): the squared log of the sum that softmax divides by.

    TRL's losses never hold whole logits and cannot tell that sum. None without a z-loss: TRL's losses are used.
    """
    if not config.z_loss_coef:
        return None

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        kept = labels[:, 1:] != IGNORED
        logits, targets = outputs.logits[:, :-1][kept].float(), labels[:, 1:][kept]
        spread = logits.logsumexp(-1)
        surprise = spread - logits.gather(-1, targets[:, None])[:, 0]
        if config.use_dft_loss:
            surprise = surprise * (-surprise).exp().detach()
        share = config.label_smoothing_factor
        smoothed = (1 - share) * surprise + share * (spread - logits.mean(-1))
        total = (smoothed + config.z_loss_coef * spread.square()).sum()
        return total / (kept.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    return loss


def keeps_rows_apart(model: PreTrainedModel, one: list[int], other: list[int]) -> bool:
    """Whether two rows of tokens laid end to end give the logits that each gives alone."""
    first, second = (torch.tensor([ids[:64]]) for ids in (one, other))
    positions = [torch.arange(ids.shape[1])[None] for ids in (first, second)]
    with evaluating(model), torch.no_grad():
        alone = model(input_ids=second.to(model.device), use_cache=False).logits
        flat = model(
            input_ids=torch.cat([first, second], 1).to(model.device),
            position_ids=torch.cat(positions, 1).to(model.device),
            use_cache=False,
        ).logits[:, first.shape[1] :]
    return bool((alone - flat).float().abs().mean() < ISOLATION_TOLERANCE * alone.float().std())


def _pad_instead(setting: Setting) -> None:
    if setting.config.packing:
        raise ModelError("this model's architecture lets packed rows see each other: set packing: false")
    setting.desk.reporter.note("info", "this model's architecture needs padded batches; expect slower steps")
