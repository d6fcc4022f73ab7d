"""What long work on datasets can be asked for: checks, statistics, repairs, and new sets made from old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from studio.config.option import Names, option
from studio.config.rendering import Rendering
from studio.errors import Problem

Action = Literal[
    "check", "statistics", "repair", "duplicate", "split", "merge", "shuffle", "sample", "deduplicate", "convert",
    "import",
]  # fmt: skip
Shape = Literal["alpaca", "sharegpt", "openai", "prompt_completion", "text"]
FileFormat = Literal["jsonl", "json", "csv", "parquet"]
TOKENS = {"action": "statistics"}


class DataConfig(Rendering):
    """One piece of work on one or more datasets; what it makes is registered under a new name."""

    kind: Literal["data"] = "data"

    action: Action = option(
        "check",
        en="What to do: check every row, measure token lengths, or make a new dataset.",
        zh="操作：检查每一行、统计 token 长度，或生成新数据集。",
        group="data",
        label=("Action", "操作"),
    )
    dataset: Names = option(
        (),
        en="The dataset to work on; merge takes several.",
        zh="要处理的数据集；合并时可多个。",
        group="data",
        label=("Dataset", "数据集"),
    )
    output_name: str | None = option(
        None,
        en="Name of the new dataset; empty derives one from the old name.",
        zh="新数据集的名称；留空则由原名派生。",
        group="data",
        label=("New name", "新名称"),
    )

    near_duplicates: bool = option(
        False,
        en="Search for rows that are almost the same, too. Takes several times as long.",
        zh="同时查找近似重复的行，耗时为数倍。",
        group="data",
        when={"action": "check"},
        label=("Near-duplicates", "近似重复"),
    )
    near_duplicate_threshold: float = option(
        0.85,
        en="Share of common pieces of text (16 bytes each) from which two rows count as near-duplicates.",
        zh="两行共有片段（每段 16 字节）达到该比例即视为近似重复。",
        group="data",
        label=("Similarity", "相似度"),
        gt=0,
        le=1,
    )
    repairs: Names = option(
        (),
        en="What to mend, by name; a check names the repairs that fit.",
        zh="要修复的项目名称；检查结果会给出可用的修复。",
        group="data",
        when={"action": "repair"},
        label=("Repairs", "修复"),
    )
    fraction: float | None = option(
        None,
        en="Share of the rows: the first part of a split, or the size of a sample.",
        zh="行的比例：拆分的第一部分，或抽样大小。",
        group="data",
        label=("Fraction", "比例"),
        gt=0,
        lt=1,
    )
    rows: int | None = option(
        None,
        en="Number of rows of a sample.",
        zh="抽样的行数。",
        group="data",
        when={"action": "sample"},
        label=("Rows", "行数"),
        ge=1,
    )
    column: str | None = option(
        None,
        en="Split by the values of this column, one new dataset for each.",
        zh="按该列的取值拆分，每个取值一个新数据集。",
        group="data",
        when={"action": "split"},
        label=("Column", "列"),
    )
    seed: int = option(
        42, en="Seed of what is drawn by chance.", zh="随机种子。", group="data", label=("Seed", "种子"), ge=0, lt=2**32
    )
    shape: Shape | None = option(
        None,
        en="Shape of the new rows; empty keeps the old one.",
        zh="新行的格式；留空保持原格式。",
        group="data",
        when={"action": "convert"},
        label=("Shape", "格式"),
    )
    file_format: FileFormat = option(
        "jsonl",
        en="Kind of the new file.",
        zh="新文件的类型。",
        group="data",
        label=("File", "文件类型"),
    )

    path: str | None = option(
        None, en="A file or folder on this machine to import.", zh="要导入的本机文件或文件夹。",
        group="import", when={"action": "import"}, label=("Path", "路径"),
    )  # fmt: skip
    hub: Literal["hf", "ms"] = option(
        "hf",
        en="Where hub_id is: hf is the Hugging Face hub, ms is ModelScope.",
        zh="hub_id 所在平台：hf 为 Hugging Face，ms 为 ModelScope。",
        group="import",
        when={"action": "import"},
        label=("Hub", "平台"),
    )
    hub_id: str | None = option(
        None, en="A dataset on a hub, as owner/name.", zh="平台上的数据集，形如 owner/name。",
        group="import", when={"action": "import"}, label=("Hub dataset", "平台数据集"),
    )  # fmt: skip
    subset: str | None = option(
        None, en="Subset (configuration) of the hub dataset.", zh="平台数据集的子集。",
        group="import", when={"action": "import"}, label=("Subset", "子集"),
    )  # fmt: skip
    split: str = option(
        "train", en="Split of the hub dataset.", zh="平台数据集的划分。",
        group="import", when={"action": "import"}, label=("Split", "划分"), min_length=1,
    )  # fmt: skip

    model_name_or_path: str | None = option(
        None,
        en="The model whose tokenizer and template count: seedling (bundled), a local folder, or a hub id.",
        zh="用于分词和模板的模型：内置的 seedling、本地文件夹或模型库 ID。",
        group="tokens",
        label=("Model", "模型"),
    )
    measured_rows: int | None = option(
        20_000,
        en="Measure an even sample of so many rows of a large file; empty measures all.",
        zh="大文件只均匀抽取这么多行统计；留空统计全部。",
        group="tokens",
        when=TOKENS,
        label=("Measured rows", "统计行数"),
        ge=1,
    )

    @classmethod
    def measuring(cls, dataset: str, model_name_or_path: str, rendering: Rendering) -> DataConfig:
        """Work out the statistics of a dataset for a model that sees its rows as `rendering` says."""
        settings = {key: getattr(rendering, key) for key in Rendering.model_fields}
        return cls(action="statistics", dataset=(dataset,), model_name_or_path=model_name_or_path, **settings)

    @property
    def title(self) -> str:
        """What the work is called in lists."""
        return f"{self.action} {', '.join(self.dataset) or self.hub_id or self.path or ''}".strip()

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        for rule in RULES:
            if problem := rule(self):
                yield problem


def _has_subject(config: DataConfig) -> Problem | None:
    if config.action == "import":
        given = config.path or config.hub_id
        return None if given else Problem("path", "say what to import: a path, or a hub_id")
    needed = 2 if config.action == "merge" else 1
    if len(config.dataset) >= needed:
        return None
    return Problem("dataset", "choose at least two datasets to merge" if needed == 2 else "choose a dataset")


def _one_subject(config: DataConfig) -> Problem | None:
    if config.action == "merge" or len(config.dataset) <= 1:
        return None
    return Problem("dataset", f"{config.action} works on one dataset at a time")


def _one_source(config: DataConfig) -> Problem | None:
    if config.action != "import" or not (config.path and config.hub_id):
        return None
    return Problem("hub_id", "give either a path or a hub_id, not both")


def _names_repairs(config: DataConfig) -> Problem | None:
    if config.action != "repair" or config.repairs:
        return None
    return Problem("repairs", "choose what to mend; a check of the dataset names the repairs that fit")


def _says_how_to_split(config: DataConfig) -> Problem | None:
    if config.action != "split" or (config.fraction is None) != (config.column is None):
        return None
    return Problem("fraction", "say how to split: either a fraction such as 0.9, or a column")


def _says_how_many(config: DataConfig) -> Problem | None:
    if config.action != "sample" or (config.fraction is None) != (config.rows is None):
        return None
    return Problem("rows", "say how large the sample is: either rows, or a fraction")


def _names_a_model(config: DataConfig) -> Problem | None:
    if config.action != "statistics" or config.model_name_or_path:
        return None
    return Problem("model_name_or_path", "choose the model whose tokens are counted")


RULES: tuple[Callable[[DataConfig], Problem | None], ...] = (
    _has_subject,
    _one_subject,
    _one_source,
    _names_repairs,
    _says_how_to_split,
    _says_how_many,
    _names_a_model,
)
