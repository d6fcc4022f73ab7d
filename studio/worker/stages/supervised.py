"""Learning to go on as the rows do: answers of conversations, or text as such.

The rows of a batch are laid end to end in one sequence (no padding), positions start over at each row, and the
attention mask built from them keeps rows apart. Not every architecture honours that, so it is tried on the model
before training, and batches are padded where it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from datasets import Dataset, IterableDataset
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker.encode import IGNORED
from studio.worker.fast import graphs, head, passes, room
from studio.worker.fast.graphs import Graphs
from studio.worker.fast.passes import Batch, Row
from studio.worker.methods.adapters import beneath
from studio.worker.samples import evaluating
from studio.worker.stages.dealt import Dealt
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting, arguments

LENGTHS = "row_lengths"
ISOLATION_TOLERANCE = 0.05  # of the logits' spread, on average: measured 0.002 for bfloat16, 0.2 for a leak


class SupervisedTrainer(Dealt, SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """Supervised fine-tuning. A validation is a mean over its tokens, however they lie in batches."""

    _tokens: list[torch.Tensor]  # that count, of each batch validated so far
    _losses: list[torch.Tensor]
    _sums: torch.Tensor | None = None  # since the last figures were told
    _graphs: Graphs | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the loss is a sum over tokens of what the fused head tells of each."""
        return self.compute_loss_func is None and self.label_smoother is None and not self.aux_loss_enabled

    def recorded(self, setting: Setting) -> Self:
        is_shared = setting.desk.rank.world > 1 and isinstance(self.train_dataset, IterableDataset)
        self.tells_late = self.is_plain
        self.deals = bool(setting.passes.tokens and self.args.padding_free and self.is_plain and not is_shared)
        if self.deals:
            head.pick(beneath(self.model))
            # constants; processes that need different numbers of passes would wait for each other to send them
            buffers = [name for name, _ in self.model.named_buffers()]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, buffers)
            if not graphs.obstacle(setting.config, beneath(self.model), setting.sharding.device):
                most, device = setting.passes.tokens or 0, setting.sharding.device
                self._graphs = Graphs(self._learn, self.model.parameters(), device, most, self.renew)
        return super().recorded(setting)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As TRL's, which waits for the device several times a batch to read its figures."""
        if return_outputs or not self.is_plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, sums = self._figured(model, inputs, num_items_in_batch)
        self._count(sums)
        return loss

    def _figured(self, model: Any, inputs: dict[str, Any], of_step: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, as a share of the tokens `of_step` or, where that is None, of these; and what is summed up to be
        told: entropy, tokens that were right, all that count."""
        inputs = {name: each for name, each in inputs.items() if name != room.PADDING}
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        mask, losses = outputs.label_mask, -outputs.log_probs
        if self.args.loss_type == "dft":
            losses = losses * outputs.log_probs.exp().detach()
        counted = mask.sum()
        sums = torch.stack(
            [torch.where(mask, outputs.entropy.detach(), 0).sum(), (outputs.is_top1 & mask).sum(), counted]
        )
        total = torch.where(mask, losses, 0).sum() / torch.as_tensor(counted if of_step is None else of_step).clamp(1)
        # gradients are averaged over the processes, whose tokens are all counted
        return total if of_step is None else total * self.accelerator.num_processes, sums

    def go_through(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        if self._graphs is None or not self.is_plain:
            return super().go_through(model, inputs, *rest)
        if not model.training:
            model.train()
        self.optimizer.train()
        [of_step] = rest
        told = self._graphs.play(inputs, of_step)
        if self._graphs.path and self._graphs.path not in self.paths:
            self.paths.append(self._graphs.path)
        if told is None:
            return super().go_through(model, inputs, of_step)
        loss, sums = told
        self._count(sums)
        return loss

    def _learn(self, inputs: dict[str, Any], of_step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A pass there and back, without anything that is done on the host alone."""
        with self.compute_loss_context_manager():
            loss, sums = self._figured(self.model_wrapped, inputs, of_step)
        self.accelerator.backward(loss)
        return loss.detach(), sums

    def sent(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._graphs and not self._graphs.is_off:
            batch = room.fit(batch, self._graphs.room(batch))
        return super().sent(batch)

    def tokens_of(self, inputs: Any) -> int:
        return super().tokens_of(inputs) - int(inputs.get(room.PADDING, 0))

    def _count(self, sums: torch.Tensor) -> None:
        """Entropy, tokens that were right and tokens that count, summed over a batch."""
        if self.model.training:
            sums = sums.to(self.args.device)
            self._sums = sums if self._sums is None else self._sums + sums
        else:
            for name, figure in _shares(sums).items():
                self._metrics["eval"][name].append(figure)

    def measured(self) -> dict[str, torch.Tensor]:
        if self._sums is None:
            return {}
        sums, self._sums = self.accelerator.reduce(self._sums, "sum"), None
        return _shares(sums)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            sent = {} if self.tells_late else self.measured()
            logs |= {"num_tokens": self.progress.tokens, **{name: float(figure) for name, figure in sent.items()}}
        super().log(logs, start_time)

    def fresh(self, batches: list[Batch]) -> list[Row]:
        """Without those that fill up the last batches of several processes, but for one, that something goes through
        the model of each."""
        *others, last = batches
        rows = super().fresh(others) + last.rows[: self._own_rows(len(last.rows))]
        return rows or [{**last.rows[0], "labels": [IGNORED] * len(last.rows[0]["input_ids"])}]

    def collate(self, rows: list[Row]) -> dict[str, Any]:
        return passes.lay(rows)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        for batch in batch_samples:
            self._blank_repeats(batch, is_last=batch is batch_samples[-1])
        if not self.deals:
            return super()._get_num_items_in_batch(batch_samples, device)
        counted = sum(len(batch["targets"]) for batch in batch_samples)
        if self.accelerator.num_processes == 1:
            return counted
        return self.accelerator.reduce(torch.full((), counted, device=device), "sum")  # sent, it would be waited for

    def _blank_repeats(self, batch: dict[str, Any], is_last: bool = True) -> None:
        """Of the last batches of several processes, which rows from the beginning fill up, those count for nothing."""
        lengths = batch.pop(LENGTHS, None)
        if lengths is None or not is_last:
            return
        own = self._own_rows(len(lengths))
        if batch["labels"].shape[0] == len(lengths):
            batch["labels"][own:] = IGNORED
        else:  # laid end to end
            batch["labels"][:, int(lengths[:own].sum()) :] = IGNORED

    def _own_rows(self, rows: int) -> int:
        """How many of so many `rows` in a batch of this process do not fill it up from the beginning of the data."""
        if not self.accelerator.gradient_state.end_of_dataloader or (remainder := self._remainder(rows)) <= 0:
            return rows
        before = int(self.accelerator.process_index) * rows
        return min(max(remainder - before, 0), rows)

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
        if self._graphs:
            self._graphs.make_way()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **keys)
        output.metrics[f"{metric_key_prefix}_loss"] = self._by_token(self._losses)
        for name, values in self._metrics["eval"].items():
            if len(values) == len(self._tokens):
                self._metrics["eval"][name] = [self._by_token(values)]
        return output

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **keys: Any) -> tuple[Any, Any, Any]:
        self._blank_repeats(inputs)
        loss, logits, labels = super().prediction_step(model, inputs, *args, **keys)
        self._tokens.append((inputs["labels"][:, 1:] != IGNORED).sum())
        self._losses.append(loss)
        return loss, logits, labels

    def _by_token(self, values: Sequence[torch.Tensor | float]) -> float:
        tokens = torch.stack(self._tokens).double()
        means = torch.stack([torch.as_tensor(value, dtype=torch.double, device=tokens.device) for value in values])
        sums = torch.stack([torch.where(tokens > 0, means * tokens, 0).sum(), tokens.sum()])
        total, counted = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        return float(total / counted)


def _shares(sums: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is shown of sums over tokens: of entropy, of those that were right, and of all."""
    entropy, right, counted = sums
    return {"entropy": entropy / counted.clamp(1), "mean_token_accuracy": right / counted.clamp(1)}


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
        **_fetching(setting),
    )
    data = setting.data
    rows = pack_dataset(data.train, data.cutoff_len, "bfd") if packs else data.train
    parts = {**setting.parts, "train_dataset": rows, "compute_loss_func": spread_loss(config)}
    trainer = SupervisedTrainer(args=args, **parts)
    if setting.desk.rank.world > 1:
        trainer.data_collator = _telling_lengths(trainer.data_collator)
    return trainer.recorded(setting)


def _fetching(setting: Setting) -> dict[str, Any]:
    """A stream's batches are dealt out by the first process, which has to make tensors of them; not to itself alone."""
    is_alone = setting.desk.rank.world == 1
    return {"accelerator_config": {"dispatch_batches": False}} if setting.config.streaming and is_alone else {}


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
    rows = [{"input_ids": ids[:64]} for ids in (one, other)]
    batch = {name: each for name, each in passes.lay(rows).items() if name not in ("counted", "targets")}
    second = torch.tensor([rows[1]["input_ids"]], device=model.device)
    with evaluating(model), torch.no_grad():
        alone = model(input_ids=second, use_cache=False).logits
        flat = model(**passes.send(batch, model.device), use_cache=False).logits[:, -second.shape[1] :]
    return bool((alone - flat).float().abs().mean() < ISOLATION_TOLERANCE * alone.float().std())


def _pad_instead(setting: Setting) -> None:
    if setting.config.packing:
        raise ModelError("this model's architecture lets packed rows see each other: set packing: false")
    setting.desk.reporter.note("info", "this model's architecture needs padded batches; expect slower steps")
