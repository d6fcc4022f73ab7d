"""What a training run can be asked for. Keys are LLaMA-Factory's; bounds, texts and defaults stand here only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isclose
from typing import Literal

from studio.config.option import Config, Names, Shares, option
from studio.errors import Problem

LORA = {"finetuning_type": "lora"}
Scheduler = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
]
Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"]


class TrainConfig(Config):
    """Supervised fine-tuning of one model on one or more datasets."""

    kind: Literal["train"] = "train"

    model_name_or_path: str = option(
        "seedling",
        en="The model to start from: seedling (bundled), a local folder, or a hub id.",
        zh="起始模型：内置的 seedling、本地文件夹或模型库 ID。",
        group="model",
        label=("Model", "模型"),
        min_length=1,
    )
    trust_remote_code: bool = option(
        False,
        en="Run Python code that comes with the model. Only for authors you trust.",
        zh="运行模型自带的 Python 代码。仅在信任作者时开启。",
        group="advanced",
    )
    run_name: str | None = option(
        None,
        en="A short name for the run, part of its folder's name.",
        zh="运行的简短名称，会出现在文件夹名中。",
        group="model",
        label=("Run name", "运行名称"),
    )

    stage: Literal["sft"] = option(
        "sft",
        en="Kind of training: sft is supervised fine-tuning.",
        zh="训练阶段：sft 为监督微调。",
        group="method",
        label=("Stage", "训练阶段"),
    )
    finetuning_type: Literal["lora", "full"] = option(
        "lora",
        en="lora trains a small adapter beside the frozen model; full changes every weight.",
        zh="lora 只训练冻结模型旁的小适配器；full 更新全部权重。",
        group="method",
        label=("Method", "微调方法"),
    )
    lora_rank: int = option(
        8,
        en="Width of the adapter: more learns more and weighs more.",
        zh="适配器的秩：越大学得越多，占用也越大。",
        group="method",
        when=LORA,
        label=("LoRA rank", "LoRA 秩"),
        ge=1,
        le=512,
    )
    lora_alpha: int | None = option(
        None,
        en="Scale of the adapter; empty means twice the rank.",
        zh="适配器缩放；留空为秩的两倍。",
        group="method",
        when=LORA,
        label=("LoRA alpha", "LoRA alpha"),
        ge=1,
        le=4096,
    )
    lora_dropout: float = option(
        0.0,
        en="Share of adapter inputs dropped while training. 0 is fastest.",
        zh="训练时随机丢弃的适配器输入比例。0 最快。",
        group="method",
        when=LORA,
        label=("LoRA dropout", "LoRA dropout"),
        ge=0,
        lt=1,
    )
    lora_target: Names = option(
        ("all",),
        en="Module names that get an adapter, comma-separated; all means every linear layer.",
        zh="加适配器的模块名，逗号分隔；all 表示所有线性层。",
        group="method",
        when=LORA,
        label=("LoRA targets", "LoRA 目标模块"),
        min_length=1,
    )
    use_rslora: bool = option(
        False,
        en="Scale by alpha over the square root of the rank: steadier at high rank.",
        zh="以 alpha/√秩 缩放，高秩时更稳定。",
        group="advanced",
        when=LORA,
    )

    dataset: Names = option(
        (),
        en="One or more registered datasets.",
        zh="一个或多个已注册的数据集。",
        group="data",
        label=("Datasets", "数据集"),
    )
    dataset_dir: str = option(
        "data",
        en="Folder that holds dataset_info.json.",
        zh="dataset_info.json 所在文件夹。",
        group="advanced",
        min_length=1,
    )
    cutoff_len: int = option(
        2048,
        en="Tokens kept of a row; what is longer is cut.",
        zh="每行保留的最大 token 数，超出部分被截断。",
        group="data",
        label=("Cutoff length", "截断长度"),
        ge=8,
        le=1_048_576,
    )
    max_samples: int | None = option(
        None,
        en="Use only the first rows of each dataset; empty uses all.",
        zh="每个数据集只用前若干行；留空使用全部。",
        group="data",
        label=("Max samples", "最大样本数"),
        ge=1,
    )
    val_size: float = option(
        0.0,
        en="Rows held out for validation: a share below 1, or a number of rows.",
        zh="留作验证的行：小于 1 为比例，否则为行数。",
        group="data",
        label=("Validation size", "验证集大小"),
        ge=0,
    )
    eval_dataset: Names = option(
        (),
        en="Registered datasets to validate on, instead of rows held out of the training data.",
        zh="用于验证的已注册数据集，代替从训练数据中留出的行。",
        group="data",
        label=("Validation datasets", "验证数据集"),
    )
    eval_on_each_dataset: bool = option(
        False,
        en="Validate on each of the validation datasets by itself.",
        zh="分别在每个验证数据集上验证。",
        group="advanced",
    )
    mix_strategy: Literal["concat", "interleave_under", "interleave_over"] = option(
        "concat",
        en="How datasets are mixed: concat takes all rows; interleave draws from them in turn or by interleave_probs, "
        "under until the first is used up, over until every row of every one was used (short ones repeat).",
        zh="数据集的混合方式：concat 取全部行；interleave 轮流或按 interleave_probs 抽取，under 到第一个用尽为止，"
        "over 到每个数据集的每一行都用过为止（短的会重复）。",
        group="data",
        label=("Mixing", "混合方式"),
    )
    interleave_probs: Shares = option(
        (),
        en="Share of each dataset in an interleaved mixture, comma-separated, in the order of the datasets; empty "
        "takes them in turn.",
        zh="交错混合时各数据集的占比，逗号分隔，按数据集顺序；留空则轮流抽取。",
        group="data",
        label=("Mixing shares", "混合占比"),
    )
    streaming: bool = option(
        False,
        en="Read and encode rows while training, for datasets that no disk cache should hold. Needs max_steps.",
        zh="边训练边读取和编码，适用于不宜缓存到磁盘的大数据集。需设置 max_steps。",
        group="advanced",
    )
    buffer_size: int = option(
        16_384,
        en="Rows from which a streamed training draws the next by chance.",
        zh="流式训练时随机抽取下一行的缓冲行数。",
        group="advanced",
        when={"streaming": True},
        ge=1,
    )
    preprocessing_num_workers: int | None = option(
        None,
        en="Processes that encode the rows, never more than one for every 4 MB; empty decides by text and cores.",
        zh="编码数据的进程数，每 4 MB 至多一个；留空按文本量和核心数决定。",
        group="advanced",
        ge=1,
        le=128,
    )
    overwrite_cache: bool = option(
        False,
        en="Encode the rows anew even if an earlier run has left the same ones.",
        zh="即使之前的运行已留下相同的编码结果也重新编码。",
        group="advanced",
    )
    default_system: str | None = option(
        None,
        en="System prompt for rows that have none.",
        zh="没有系统提示的行所用的系统提示。",
        group="data",
        label=("Default system prompt", "默认系统提示"),
    )
    model_name: str | None = option(
        None,
        en="What {{name}} in the data becomes: the name the model gives itself.",
        zh="数据中 {{name}} 的替换值：模型的自称。",
        group="data",
        label=("Model's own name", "模型自称"),
    )
    model_author: str | None = option(
        None,
        en="What {{author}} in the data becomes.",
        zh="数据中 {{author}} 的替换值。",
        group="data",
        label=("Model's author", "模型作者"),
    )
    train_on_prompt: bool = option(
        False,
        en="Train on the prompts too, not only on the answers.",
        zh="除回答外也训练提示部分。",
        group="advanced",
    )
    mask_history: bool = option(
        False,
        en="Train on the last answer of a conversation only.",
        zh="只训练对话的最后一轮回答。",
        group="advanced",
    )
    packing: bool = option(
        False,
        en="Fill every sequence up to the cutoff with several rows (each sees only itself). Fewer, fuller steps.",
        zh="把多行装入同一序列直到截断长度（各行互不可见），步数更少、更满。",
        group="advanced",
    )

    learning_rate: float = option(
        2e-4,
        en="Peak learning rate. LoRA likes 1e-4 to 5e-4, full fine-tuning 5e-6 to 5e-5.",
        zh="峰值学习率。LoRA 常用 1e-4 至 5e-4，全量微调 5e-6 至 5e-5。",
        group="optimisation",
        label=("Learning rate", "学习率"),
        gt=0,
        le=1,
    )
    num_train_epochs: float = option(
        3.0,
        en="Passes over the data.",
        zh="数据遍历次数。",
        group="optimisation",
        label=("Epochs", "训练轮数"),
        gt=0,
        le=10_000,
    )
    max_steps: int = option(
        -1,
        en="Stop after this many steps; -1 lets the epochs decide.",
        zh="最多训练步数；-1 由轮数决定。",
        group="optimisation",
        label=("Max steps", "最大步数"),
        ge=-1,
    )
    per_device_train_batch_size: int = option(
        2,
        en="Rows a device takes at once.",
        zh="每个设备一次处理的行数。",
        group="optimisation",
        label=("Batch size", "批大小"),
        ge=1,
        le=4096,
    )
    gradient_accumulation_steps: int = option(
        8,
        en="Batches summed before each step.",
        zh="每步之前累积的批数。",
        group="optimisation",
        label=("Gradient accumulation", "梯度累积"),
        ge=1,
        le=65_536,
    )
    lr_scheduler_type: Scheduler = option(
        "cosine",
        en="How the learning rate falls.",
        zh="学习率下降方式。",
        group="optimisation",
        label=("Schedule", "学习率调度"),
    )
    warmup_ratio: float = option(
        0.0,
        en="Share of the steps over which the learning rate rises.",
        zh="学习率预热占总步数的比例。",
        group="optimisation",
        label=("Warm-up share", "预热比例"),
        ge=0,
        lt=1,
    )
    warmup_steps: int = option(
        0,
        en="Steps over which the learning rate rises; used instead of the share.",
        zh="学习率预热步数，优先于比例。",
        group="advanced",
        ge=0,
    )
    weight_decay: float = option(
        0.0, en="Pull of the weights towards zero.", zh="权重衰减。", group="advanced", ge=0, le=1
    )
    max_grad_norm: float = option(
        1.0, en="Gradients are clipped to this norm.", zh="梯度裁剪范数。", group="advanced", gt=0
    )
    optim: Optimizer = option("adamw_torch", en="The optimizer.", zh="优化器。", group="advanced")
    seed: int = option(
        42, en="Seed of shuffling and initialisation.", zh="随机种子。", group="advanced", ge=0, lt=2**32
    )
    bf16: bool | None = option(
        None,
        en="Compute in bfloat16; empty means: on a GPU that can.",
        zh="使用 bfloat16 计算；留空则在支持的 GPU 上启用。",
        group="advanced",
    )
    fp16: bool = option(
        False,
        en="Compute in float16 with loss scaling (GPU only).",
        zh="使用 float16（仅 GPU）。",
        group="advanced",
    )
    gradient_checkpointing: bool = option(
        False,
        en="Recompute activations to save memory; about a third slower.",
        zh="重算激活以节省显存，约慢三分之一。",
        group="advanced",
    )

    eval_steps: int | None = option(
        None,
        en="Validate every so many steps; empty means once an epoch, if rows are held out.",
        zh="每隔多少步验证一次；留空则每轮一次（需有验证集）。",
        group="saving",
        label=("Validate every (steps)", "验证间隔（步）"),
        ge=1,
    )
    per_device_eval_batch_size: int = option(
        2, en="Rows a device validates at once.", zh="验证批大小。", group="advanced", ge=1, le=4096
    )
    logging_steps: int = option(
        1, en="Steps between two points of the charts.", zh="图表记录间隔（步）。", group="advanced", ge=1
    )
    save_steps: int = option(
        100,
        en="Save a checkpoint every so many steps; 0 saves none on the way.",
        zh="每隔多少步保存检查点；0 表示中途不保存。",
        group="saving",
        label=("Save every (steps)", "保存间隔（步）"),
        ge=0,
    )
    save_total_limit: int = option(
        3,
        en="Checkpoints kept; older ones are deleted.",
        zh="保留的检查点数，较旧的会被删除。",
        group="saving",
        label=("Checkpoints kept", "保留检查点数"),
        ge=1,
    )
    resume_from_checkpoint: str | None = option(
        None,
        en="Set by the studio when a run is resumed: the checkpoint inside the run's own folder.",
        zh="恢复训练时由系统设置：本运行文件夹内的检查点。",
        group="internal",
    )
    resumed_from: str | None = option(
        None, en="The run that this one continues.", zh="被本运行继续的运行。", group="internal"
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "+".join(self.dataset)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        for rule in RULES:
            if problem := rule(self):
                yield problem


def _needs_data(config: TrainConfig) -> Problem | None:
    if config.dataset:
        return None
    return Problem("dataset", "choose at least one dataset; `python -m studio data list` names them")


def _one_precision(config: TrainConfig) -> Problem | None:
    if not (config.bf16 and config.fp16):
        return None
    return Problem("fp16", "bf16 and fp16 exclude each other: keep bf16 unless the GPU lacks it")


def _rows_to_validate(config: TrainConfig) -> Problem | None:
    if config.eval_steps is None or config.val_size > 0 or config.eval_dataset:
        return None
    return Problem("eval_steps", "there is nothing to validate on: set val_size, for example 0.1, or eval_dataset")


def _one_validation(config: TrainConfig) -> Problem | None:
    if not (config.val_size and config.eval_dataset):
        return None
    return Problem("val_size", "rows are held out or a dataset of their own is given: set val_size or eval_dataset")


def _shares_of_interleaving(config: TrainConfig) -> Problem | None:
    if not config.interleave_probs or config.mix_strategy != "concat":
        return None
    return Problem("interleave_probs", "concat takes every row once: set mix_strategy to interleave_under or _over")


def _share_for_each(config: TrainConfig) -> Problem | None:
    shares = config.interleave_probs
    if not shares or (len(shares) == len(config.dataset) and min(shares) > 0 and isclose(sum(shares), 1, abs_tol=1e-6)):
        return None
    what = f"give one share above 0 for each of the {len(config.dataset)} datasets, 1 in all"
    return Problem("interleave_probs", f"{what} (got {', '.join(map(str, shares))})")


def _streamed_to_an_end(config: TrainConfig) -> Problem | None:
    if not config.streaming or config.max_steps > 0:
        return None
    return Problem(
        "max_steps", "a streamed training does not know how long an epoch is: say after how many steps it ends"
    )


def _streamed_validation(config: TrainConfig) -> Problem | None:
    if (
        not config.streaming
        or config.val_size == 0
        or (config.val_size >= 1 and config.val_size == int(config.val_size))
    ):
        return None
    return Problem("val_size", "of a stream nobody knows a share: give the number of rows to hold out")


def _one_warmup(config: TrainConfig) -> Problem | None:
    if not (config.warmup_steps and config.warmup_ratio):
        return None
    return Problem("warmup_ratio", "set either warmup_steps or warmup_ratio, not both")


def _some_steps(config: TrainConfig) -> Problem | None:
    return (
        Problem("max_steps", "0 steps would train nothing: use -1 or a positive number")
        if config.max_steps == 0
        else None
    )


RULES: tuple[Callable[[TrainConfig], Problem | None], ...] = (
    _needs_data,
    _one_precision,
    _rows_to_validate,
    _one_validation,
    _shares_of_interleaving,
    _share_for_each,
    _streamed_to_an_end,
    _streamed_validation,
    _one_warmup,
    _some_steps,
)
