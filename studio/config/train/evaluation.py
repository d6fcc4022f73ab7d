"""How a training is measured on the way, and what follows from it."""

from __future__ import annotations

from studio.config.option import Config, option


class EvaluationOptions(Config):
    """Validation, the best checkpoint, early stopping and sample answers."""

    eval_steps: int | None = option(
        None,
        en="Validate every so many steps; empty means once an epoch, if rows are held out.",
        zh="每隔多少步验证一次；留空则每轮一次（需有验证集）。",
        group="evaluation",
        label=("Validate every (steps)", "验证间隔（步）"),
        ge=1,
    )
    per_device_eval_batch_size: int = option(
        2,
        en="Rows a device validates at once.",
        zh="验证批大小。",
        group="evaluation",
        label=("Validation batch size", "验证批大小"),
        ge=1,
        le=4096,
    )
    load_best_model_at_end: bool = option(
        False,
        en="Keep the checkpoint with the best validation and end with it.",
        zh="保留验证最好的检查点，并以其作为最终结果。",
        group="evaluation",
        label=("Keep the best", "保留最佳"),
    )
    metric_for_best_model: str = option(
        "loss",
        en="What best means: loss, perplexity, token_accuracy, rewards/margins or another figure of the validation.",
        zh="衡量最佳的指标：loss、perplexity、token_accuracy、rewards/margins 或其他验证指标。",
        group="evaluation",
        label=("Best by", "最佳指标"),
        min_length=1,
    )
    early_stopping_steps: int | None = option(
        None,
        en="Stop after so many validations without a better one, and end with the best; empty never stops.",
        zh="连续若干次验证没有改进即停止，并以最佳结果结束；留空不提前停止。",
        group="evaluation",
        label=("Early stopping", "提前停止"),
        ge=1,
    )
    sample_prompts: str | None = option(
        None,
        en="Prompts, one a line, that the model answers on the way: how its answers change is shown in the run.",
        zh="每行一个提示，训练途中由模型回答：可在运行页查看回答的变化。",
        group="evaluation",
        label=("Sample prompts", "示例提示"),
        min_length=1,
    )
    sample_steps: int | None = option(
        None,
        en="Answer the sample prompts every so many steps; empty means at every validation and at the end.",
        zh="每隔多少步回答示例提示；留空则在每次验证和结束时。",
        group="evaluation",
        label=("Samples every (steps)", "示例间隔（步）"),
        ge=1,
    )
