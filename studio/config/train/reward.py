"""Learning from rewards for answers that the model writes itself."""

from __future__ import annotations

from studio.config.option import Config, Names, Shares, option
from studio.config.train.method import ONLINE

REWARDED = {"stage": ONLINE}
REWARDS = ("exact_match", "number_match", "format_match", "length", "reward_model")


class RewardOptions(Config):
    """What matters in the stages grpo and rloo."""

    reward_funcs: Names = option(
        (),
        en="What rewards an answer, comma-separated: exact_match, number_match, format_match, length, reward_model, or "
        "FILE.py:FUNCTION below data/rewards.",
        zh="奖励函数，逗号分隔：exact_match、number_match、format_match、length、reward_model，或 data/rewards 下的 "
        "FILE.py:FUNCTION。",
        group="reward",
        when=REWARDED,
        label=("Rewards", "奖励"),
    )
    reward_weights: Shares = option(
        (),
        en="Weight of each reward, comma-separated; empty weighs all alike.",
        zh="各奖励的权重，逗号分隔；留空则相同。",
        group="reward",
        when=REWARDED,
        label=("Reward weights", "奖励权重"),
    )
    reward_pattern: str | None = option(
        None,
        en="Regular expression that format_match looks for in an answer.",
        zh="format_match 在回答中查找的正则表达式。",
        group="reward",
        when={**REWARDED, "reward_funcs": "format_match"},
        label=("Format pattern", "格式正则"),
        min_length=1,
    )
    reward_length: int = option(
        100,
        en="Tokens that the length reward wants in an answer.",
        zh="length 奖励期望的回答 token 数。",
        group="reward",
        when={**REWARDED, "reward_funcs": "length"},
        label=("Wanted length", "期望长度"),
        ge=1,
        le=1_048_576,
    )
    reward_model: str | None = option(
        None,
        en="The reward model: an rm run or a model folder.",
        zh="奖励模型：rm 运行或模型文件夹。",
        group="reward",
        when={**REWARDED, "reward_funcs": "reward_model"},
        label=("Reward model", "奖励模型"),
        min_length=1,
    )
    trust_reward_code: bool = option(
        False,
        en="Run the Python files of reward_funcs. Only for code you have read.",
        zh="运行 reward_funcs 指定的 Python 文件。仅限您读过的代码。",
        group="reward",
        when=REWARDED,
        label=("Trust reward code", "信任奖励代码"),
    )
    num_generations: int = option(
        8,
        en="Answers that are written and compared for each prompt.",
        zh="每个提示生成并比较的回答数。",
        group="reward",
        when=REWARDED,
        label=("Answers a prompt", "每提示回答数"),
        ge=2,
        le=1024,
    )
    max_completion_length: int = option(
        256,
        en="Tokens that an answer may have.",
        zh="回答的最大 token 数。",
        group="reward",
        when=REWARDED,
        label=("Answer length", "回答长度"),
        ge=1,
        le=1_048_576,
    )
    temperature: float = option(
        1.0,
        en="How freely answers are drawn; they must differ to be compared.",
        zh="生成回答的随机程度；回答须有差异才能比较。",
        group="reward",
        when=REWARDED,
        label=("Temperature", "温度"),
        gt=0,
        le=10,
    )
    top_p: float = option(
        1.0,
        en="Draw from the likeliest tokens that together have this share.",
        zh="从累计概率达到该值的最可能 token 中抽取。",
        group="reward",
        when=REWARDED,
        label=("Top p", "Top p"),
        gt=0,
        le=1,
    )
    top_k: int = option(
        0,
        en="Draw from so many of the likeliest tokens; 0 means all.",
        zh="从最可能的若干个 token 中抽取；0 表示全部。",
        group="reward",
        when=REWARDED,
        label=("Top k", "Top k"),
        ge=0,
    )
    kl_coef: float = option(
        0.0,
        en="How tightly the model is held to what it was; 0 needs no reference model.",
        zh="对原模型的约束强度；0 不需要参考模型。",
        group="reward",
        when=REWARDED,
        label=("KL weight", "KL 权重"),
        ge=0,
        le=100,
    )
    num_iterations: int = option(
        1,
        en="Times that the same answers are learned from.",
        zh="同一批回答被学习的次数。",
        group="reward",
        when=REWARDED,
        label=("Iterations", "迭代次数"),
        ge=1,
        le=100,
    )
    epsilon: float = option(
        0.2,
        en="How far one step may move the likelihood of an answer.",
        zh="单步中回答概率可变动的幅度（裁剪）。",
        group="reward",
        when=REWARDED,
        label=("Clipping", "裁剪"),
        gt=0,
        lt=1,
    )
