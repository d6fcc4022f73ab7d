"""What a training leaves on the way: figures and checkpoints."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, Names, option

Scope = Literal["all", "no_scheduler", "no_optimizer", "weights"]


class SavingOptions(Config):
    """When it logs and saves, to whom it reports, and where it goes on from."""

    logging_steps: int = option(
        1, en="Steps between two points of the charts.", zh="图表记录间隔（步）。", group="advanced", ge=1
    )
    save_strategy: Literal["steps", "epoch", "no"] = option(
        "steps",
        en="When checkpoints are saved: every save_steps steps, after each epoch, or not on the way.",
        zh="何时保存检查点：每 save_steps 步、每轮结束，或中途不保存。",
        group="saving",
        label=("Save", "保存时机"),
    )
    save_steps: int = option(
        100,
        en="Save a checkpoint every so many steps; 0 saves none on the way.",
        zh="每隔多少步保存检查点；0 表示中途不保存。",
        group="saving",
        label=("Save every (steps)", "保存间隔（步）"),
        when={"save_strategy": "steps"},
        ge=0,
    )
    save_minutes: float | None = option(
        None,
        en="Save a checkpoint too when so many minutes have passed since the last one.",
        zh="距上次保存超过多少分钟时也保存检查点。",
        group="saving",
        label=("Save every (minutes)", "保存间隔（分钟）"),
        gt=0,
    )
    save_total_limit: int = option(
        3,
        en="Checkpoints kept; older ones are deleted.",
        zh="保留的检查点数，较旧的会被删除。",
        group="saving",
        label=("Checkpoints kept", "保留检查点数"),
        ge=1,
    )
    save_only_model: bool = option(
        False,
        en="Checkpoints hold the weights only: small, but optimizer and schedule begin anew where one is resumed.",
        zh="检查点只含权重：体积小，但恢复时优化器与学习率调度重新开始。",
        group="saving",
        label=("Weights only", "仅保存权重"),
    )
    report_to: Names = option(
        ("none",),
        en="Trackers that get the figures too: tensorboard, wandb, mlflow; none means the run's folder only.",
        zh="同时接收指标的跟踪器：tensorboard、wandb、mlflow；none 表示只写入运行文件夹。",
        group="trackers",
        label=("Trackers", "跟踪器"),
        min_length=1,
    )
    resume_from_checkpoint: str | None = option(
        None,
        en="Set by the studio when a run is resumed: the checkpoint inside the run's own folder.",
        zh="恢复训练时由系统设置：本运行文件夹内的检查点。",
        group="internal",
    )
    resume_scope: Scope = option(
        "all",
        en="What a resumed run takes of the checkpoint: all of it, or the weights with the optimizer's states, the "
        "schedule, or both begun anew.",
        zh="恢复时取用检查点的哪些内容：全部，或只取权重并重新开始优化器状态、学习率调度或两者。",
        group="internal",
    )
    resumed_from: str | None = option(
        None, en="The run that this one continues.", zh="被本运行继续的运行。", group="internal"
    )
