"""What a training is fed."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Names, Shares, option
from studio.config.rendering import Rendering


class DataOptions(Rendering):
    """Datasets, how much of them, and in which mixture."""

    dataset: Names = option(
        (),
        en="One or more registered datasets.",
        zh="一个或多个已注册的数据集。",
        group="data",
        label=("Datasets", "数据集"),
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
    packing: bool = option(
        False,
        en="Fill every sequence up to the cutoff with several rows (each sees only itself): fewer, fuller steps. Stage "
        "pt always does.",
        zh="把多行装入同一序列直到截断长度（各行互不可见），步数更少、更满。pt 阶段总是如此。",
        group="advanced",
    )
