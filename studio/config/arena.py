"""What an arena can be asked for: models that answer the same prompts, to be judged without their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from studio.config.option import Config, Names, option
from studio.errors import Problem

FEWEST, MOST = 2, 4
# what a judge's prompt has to hold, each once or more
PLACES = ("{prompt}", "{answer_a}", "{answer_b}")


class ArenaConfig(Config):
    """Every contestant answers every prompt; each two answers to one prompt are a battle."""

    kind: Literal["arena"] = "arena"

    contestants: Names = option(
        (),
        en="Two to four to compare: models, adapters, checkpoints or run ids.",
        zh="要比较的 2 到 4 个：模型、适配器、检查点或运行 ID。",
        group="arena",
        label=("Contestants", "参赛者"),
    )
    dataset: str | None = option(
        None,
        en="The dataset whose prompts are drawn.",
        zh="从该数据集中抽取提示。",
        group="arena",
        label=("Dataset", "数据集"),
    )
    prompts: str | None = option(
        None,
        en="Prompts, one a line; [maths] at the beginning of a line names its category.",
        zh="提示，每行一个；行首的 [数学] 表示其类别。",
        group="arena",
        label=("Prompts", "提示"),
    )
    num_prompts: int = option(
        20,
        en="Prompts drawn from the dataset by chance.",
        zh="从数据集中随机抽取的提示数。",
        group="arena",
        label=("Number of prompts", "提示数"),
        ge=1,
        le=10_000,
    )
    category_column: str | None = option(
        None,
        en="Column of the dataset that names the category of a prompt.",
        zh="数据集中表示提示类别的列。",
        group="arena",
        label=("Category column", "类别列"),
    )
    judge: str | None = option(
        None,
        en="A model that votes too: it sees each two answers in both orders, and votes tie where the order decides.",
        zh="同样参与投票的裁判模型：两种顺序各看一次，若顺序影响结果则记为平局。",
        group="arena",
        label=("Judge", "裁判"),
    )
    judge_prompt: str | None = option(
        None,
        en="What the judge is asked, with {prompt}, {answer_a} and {answer_b}; it answers [[A]], [[B]] or [[C]] (tie).",
        zh="给裁判的提示，含 {prompt}、{answer_a}、{answer_b}；裁判回答 [[A]]、[[B]] 或 [[C]]（平局）。",
        group="arena",
        label=("Judge's prompt", "裁判提示"),
    )
    run_name: str | None = option(
        None, en="A short name for the arena.", zh="竞技场的简短名称。", group="arena", label=("Name", "名称")
    )
    default_system: str | None = option(
        None,
        en="System prompt for prompts that have none.",
        zh="没有系统提示时使用的系统提示。",
        group="sampling",
        label=("System prompt", "系统提示"),
    )
    temperature: float = option(
        0.7,
        en="0 always takes the likeliest token.",
        zh="0 表示总取最可能的 token。",
        group="sampling",
        label=("Temperature", "温度"),
        ge=0,
        le=2,
    )
    top_p: float = option(
        1.0,
        en="Share of the likeliest tokens to draw from.",
        zh="采样所用的累积概率。",
        group="sampling",
        label=("Top p", "Top p"),
        gt=0,
        le=1,
    )
    top_k: int | None = option(
        None,
        en="Number of the likeliest tokens to draw from.",
        zh="采样所用的 token 数。",
        group="sampling",
        label=("Top k", "Top k"),
        ge=1,
    )
    max_new_tokens: int = option(
        512,
        en="Longest answer in tokens.",
        zh="最长回答的 token 数。",
        group="sampling",
        label=("Longest answer (tokens)", "最长回答（token）"),
        ge=1,
        le=131_072,
    )
    repetition_penalty: float = option(
        1.0,
        en="Above 1 repeats less.",
        zh="大于 1 时减少重复。",
        group="sampling",
        label=("Repetition penalty", "重复惩罚"),
        gt=0,
        le=2,
    )
    enable_thinking: bool | None = option(
        None,
        en="Tell the template that the models think before they answer, or that they do not.",
        zh="告诉模板模型是否先思考再回答。",
        group="sampling",
        label=("Thinking", "思考模式"),
    )
    seed: int = option(
        42,
        en="Seed of the prompts drawn, the answers and the sides.",
        zh="抽取提示、生成回答与左右分配的随机种子。",
        group="sampling",
        label=("Seed", "随机种子"),
        ge=0,
        lt=2**31,
    )
    dataset_dir: str = option(
        "data",
        en="Folder that holds dataset_info.json.",
        zh="dataset_info.json 所在文件夹。",
        group="internal",
        min_length=1,
    )

    @property
    def title(self) -> str:
        """What the arena is called where no name was given."""
        return self.run_name or "arena"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        yield from filter(None, (rule(self) for rule in RULES))


def _enough(config: ArenaConfig) -> Problem | None:
    if FEWEST <= len(config.contestants) <= MOST:
        return None
    return Problem("contestants", f"choose {FEWEST} to {MOST} to compare (got {len(config.contestants)})")


def _each_once(config: ArenaConfig) -> Problem | None:
    twice = [name for name in config.contestants if config.contestants.count(name) > 1]
    return Problem("contestants", f"{twice[0]!r} stands there twice: against itself nobody wins") if twice else None


def _one_source(config: ArenaConfig) -> Problem | None:
    if bool(config.dataset) != bool(config.prompts and config.prompts.strip()):
        return None
    return Problem("prompts", "say what is asked: either type prompts, or choose a dataset")


def _category_of_dataset(config: ArenaConfig) -> Problem | None:
    if config.dataset or not config.category_column:
        return None
    return Problem("category_column", "is a dataset's; typed prompts say [category] at the beginning of a line")


def _judge_sees_all(config: ArenaConfig) -> Problem | None:
    missing = [place for place in PLACES if place not in (config.judge_prompt or place)]
    return Problem("judge_prompt", f"must hold {' and '.join(missing)} for the judge to see it") if missing else None


RULES: tuple[Callable[[ArenaConfig], Problem | None], ...] = (
    _enough,
    _each_once,
    _one_source,
    _category_of_dataset,
    _judge_sees_all,
)
