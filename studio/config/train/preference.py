"""Learning from answers that people preferred."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, option

PreferenceLoss = Literal[
    "sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard",
    "aot", "apo_zero", "apo_down", "discopop",
]  # fmt: skip
UNREFERENCED = ("orpo", "simpo")  # losses that compare with no other model
DPO = {"stage": "dpo"}
KTO = {"stage": "kto"}
PREFERENCE = {"stage": ("dpo", "kto")}


class PreferenceOptions(Config):
    """What matters in the stages dpo and kto."""

    pref_loss: PreferenceLoss = option(
        "sigmoid",
        en="The loss: sigmoid is plain DPO; orpo and simpo need no reference model.",
        zh="损失函数：sigmoid 为标准 DPO；orpo 和 simpo 不需要参考模型。",
        group="preference",
        when=DPO,
        label=("Loss", "损失函数"),
    )
    pref_beta: float = option(
        0.1,
        en="How tightly the model is held to the reference; with simpo and orpo the scale of the margin.",
        zh="对参考模型的约束强度；simpo 和 orpo 下为边际的缩放。",
        group="preference",
        when=PREFERENCE,
        label=("Beta", "Beta"),
        gt=0,
        le=100,
    )
    pref_ftx: float = option(
        0.0,
        en="Weight of the plain fine-tuning loss on the chosen answers, added to the preference loss.",
        zh="在偏好损失之外，对被选回答的微调损失权重。",
        group="preference",
        when=DPO,
        label=("Fine-tuning weight", "微调损失权重"),
        ge=0,
        le=1000,
    )
    dpo_label_smoothing: float = option(
        0.0,
        en="Share of pairs that are expected to be labelled the wrong way round.",
        zh="预计标注颠倒的样本比例。",
        group="preference",
        when={**DPO, "pref_loss": ("sigmoid", "robust", "exo_pair")},
        label=("Label smoothing", "标签平滑"),
        ge=0,
        lt=0.5,
    )
    simpo_gamma: float = option(
        0.5,
        en="Margin that SimPO wants between chosen and rejected answers.",
        zh="SimPO 要求的被选与被拒回答间的边际。",
        group="preference",
        when={**DPO, "pref_loss": "simpo"},
        label=("SimPO margin", "SimPO 边际"),
        ge=0,
        le=100,
    )
    ld_alpha: float | None = option(
        None,
        en="Weight of what the longer answer says beyond the length of the shorter one; empty weighs all alike.",
        zh="较长回答超出较短回答长度部分的权重；留空则同等对待。",
        group="preference",
        when=DPO,
        label=("Length weight", "长度权重"),
        ge=0,
        le=1,
    )
    kto_chosen_weight: float = option(
        1.0,
        en="Weight of good answers.",
        zh="好回答的权重。",
        group="preference",
        when=KTO,
        label=("Weight of good", "好回答权重"),
        gt=0,
        le=1000,
    )
    kto_rejected_weight: float = option(
        1.0,
        en="Weight of bad answers.",
        zh="坏回答的权重。",
        group="preference",
        when=KTO,
        label=("Weight of bad", "坏回答权重"),
        gt=0,
        le=1000,
    )
    ref_model: str | None = option(
        None,
        en="The reference model, as a folder or hub id; empty takes the model as it was before the training.",
        zh="参考模型（文件夹或模型库 ID）；留空为训练前的模型本身。",
        group="preference",
        when=PREFERENCE,
        label=("Reference model", "参考模型"),
        min_length=1,
    )
