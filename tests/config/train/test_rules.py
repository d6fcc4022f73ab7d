"""Rules between options: what fits together, and the sentence that each combination is refused with."""

import inspect

import pytest
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from studio.config.load import parse
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.config.train.optimisation import SCHEDULER_SETTINGS
from studio.config.train.rules import RULES
from studio.config.train.rules.method import SWITCHES
from studio.errors import ConfigError

MIXED = {"dataset": "a,b", "mix_strategy": "interleave_under"}
STREAMED = {"streaming": True, "max_steps": 10}
FULL = {"finetuning_type": "full"}
FREEZE = {"finetuning_type": "freeze"}
DPO = {"stage": "dpo"}
GRPO = {"stage": "grpo", "reward_funcs": "length"}
HELD_OUT = {"val_size": 0.1}
EACH = {"eval_dataset": "b,c", "eval_on_each_dataset": True, "load_best_model_at_end": True}
DDP = {"parallel_strategy": "ddp"}
ZERO3 = {"parallel_strategy": "zero3"}
WSD = {"lr_scheduler_type": "warmup_stable_decay"}

LEGAL = [
    MIXED,
    {**MIXED, "interleave_probs": "0.3,0.7"},
    {**MIXED, "mix_strategy": "interleave_over", "interleave_probs": [0.1, 0.9]},
    {"dataset": "a,b,c", "mix_strategy": "interleave_under", "interleave_probs": "0.1, 0.2, 0.7"},
    STREAMED,
    {**STREAMED, "val_size": 5},
    {"eval_dataset": "b,c", "eval_steps": 5},
    {"packing": True, "stage": "pt"},
    {"train_on_prompt": True},
    {"lora_rank": 64, **FULL},
    {"use_adalora": True, "adalora_init_r": 16},
    {"use_adalora": True, "quantization_bit": 4},
    {"use_dora": True, "use_rslora": True, "pissa_init": True},
    {"use_dora": True, "quantization_bit": 8},
    {"pissa_init": True, **DPO, "pref_loss": "simpo"},
    {"pissa_init": True, **GRPO},
    {"adapter_name_or_path": "one", "quantization_bit": 4},
    {"adapter_name_or_path": "one,two", "create_new_adapter": True, "use_dora": True},
    {"layers_to_transform": "0-3,8"},
    {"layers_to_transform": [0, 2], "lora_target": "q_proj,v_proj"},
    {"lora_target": r".*\.layers\.[02]\.self_attn\.(q|v)_proj"},
    {**FREEZE, "freeze_trainable_layers": -2},
    {**FREEZE, "freeze_trainable_layers": 0, "freeze_extra_modules": "norm"},
    {**FREEZE, "use_llama_pro": True},
    {**DPO, "ref_model": "x", "ld_alpha": 0.5, "pref_ftx": 0.1},
    {**DPO, "pref_loss": "exo_pair", "dpo_label_smoothing": 0.001},
    {**DPO, "pref_loss": "simpo", "neftune_noise_alpha": 5},
    {"stage": "kto", "ref_model": "x", **STREAMED},
    {**GRPO, "reward_funcs": "format_match", "reward_pattern": "<answer>"},
    {**GRPO, "reward_funcs": "length,mine/own.py:rate", "reward_weights": "1,2", "trust_reward_code": True},
    {**GRPO, "reward_funcs": "reward_model", "reward_model": "run"},
    {**GRPO, "num_generations": 4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 6},
    {"num_generations": 7},
    {"pure_bf16": True},
    {"optim": "schedule_free_sgd", "lr_scheduler_type": "constant_with_warmup"},
    {**WSD, "lr_scheduler_kwargs": "num_decay_steps=10, min_lr_ratio=1e-3"},
    {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
    {"lr_scheduler_type": "reduce_lr_on_plateau", **HELD_OUT},
    {"optim": "galore_adamw", **FULL},
    {"optim": "apollo_adamw", **FREEZE},
    {"report_to": "tensorboard,mlflow"},
    {"load_best_model_at_end": True, "early_stopping_steps": 3, **HELD_OUT},
    {**EACH, "metric_for_best_model": "c_loss"},
    {"metric_for_best_model": "eval_perplexity", "load_best_model_at_end": True, **HELD_OUT},
    {**DPO, "metric_for_best_model": "rewards/margins", "load_best_model_at_end": True, **HELD_OUT},
    {"stage": "rm", "sample_prompts": None},
    {"devices": "1"},
    {**DDP, "devices": "0,3", "nproc_per_node": 2, "optim": "muon"},
    {**ZERO3, "offload_optimizer": "nvme", "offload_param": "nvme", "nvme_path": "/scratch"},
    {**ZERO3, "deepspeed": {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/x"}}},
     "offload_param": "nvme"},
    {"parallel_strategy": "fsdp2", "offload_param": "cpu"},
    {"parallel_strategy": "fsdp2", "optim": "muon", **FULL},
    {"parallel_strategy": "fsdp2", "optim": "schedule_free_sgd", "lr_scheduler_type": "constant"},
    {"parallel_strategy": "zero2", "quantization_bit": 4},
    {"parallel_strategy": "device_map", "quantization_bit": 4, "devices": "0,1"},
    {"parallel_strategy": "device_map", **DPO},
    {**ZERO3, "pissa_init": True, "use_dora": True},
    {**DDP, "launcher": "slurm", "slurm_time": "1:00:00", "nnodes": 4},
    {"micro_batch_tokens": 4096, **DPO, **DDP},
    {"fused_lora": True, "quantization_bit": 4, **DDP},
    {"fused_lora": False, **FULL},
    {"enable_liger_kernel": True, **DDP},
    {"enable_liger_kernel": False, **ZERO3},
]  # fmt: skip

ILLEGAL = [
    ({"dataset": ""}, "dataset", "at least one dataset"),
    ({"dataset": "a,b", "interleave_probs": "0.5,0.5"}, "interleave_probs", "concat takes every row once"),
    ({**MIXED, "interleave_probs": "1.0"}, "interleave_probs", "each of the 2 datasets"),
    ({**MIXED, "interleave_probs": "0.5,0.4"}, "interleave_probs", "1 in all"),
    ({**MIXED, "interleave_probs": "0,1"}, "interleave_probs", "above 0"),
    ({**MIXED, "interleave_probs": "-1,2"}, "interleave_probs", "above 0"),
    ({**MIXED, "interleave_probs": "half,1"}, "interleave_probs.0", "valid number"),
    ({**STREAMED, "max_steps": -1}, "max_steps", "after how many steps"),
    ({**STREAMED, "val_size": 0.1}, "val_size", "number of rows"),
    ({**STREAMED, "val_size": 1.5}, "val_size", "number of rows"),
    ({**STREAMED, **GRPO}, "streaming", "set streaming: false"),
    ({"packing": True, **DPO}, "packing", "pt and sft only"),
    ({"mask_history": True, "train_on_prompt": True}, "mask_history", "keep one"),
    ({"train_on_prompt": True, **GRPO}, "train_on_prompt", "set stage: sft"),
    ({"mask_history": True, "stage": "pt"}, "mask_history", "set stage: sft"),
    ({"eval_dataset": "b", "val_size": 0.1}, "val_size", "val_size or eval_dataset"),
    ({"eval_steps": 5}, "eval_steps", "nothing to validate on"),
    ({"preprocessing_num_workers": 0}, "preprocessing_num_workers", "greater than or equal to 1"),
    ({"buffer_size": 0}, "buffer_size", "greater than or equal to 1"),
    ({"quantization_bit": 4, **FULL}, "quantization_bit", "without finetuning_type: lora"),
    ({"quantization_bit": 8, **FREEZE}, "quantization_bit", "without finetuning_type: lora"),
    ({"use_dora": True, **FULL}, "use_dora", "without finetuning_type: lora"),
    ({"pissa_convert": True}, "pissa_convert", "pissa_init: true"),
    ({"use_llama_pro": True}, "use_llama_pro", "without finetuning_type: freeze"),
    ({"ref_model": "x"}, "ref_model", "without stage: dpo or kto"),
    ({"use_dft_loss": True, **DPO}, "use_dft_loss", "without stage: sft"),
    ({"reward_funcs": "length"}, "reward_funcs", "without stage: grpo or rloo"),
    ({"use_adalora": True, "use_dora": True}, "use_adalora", "excludes use_dora"),
    ({"use_adalora": True, "pissa_init": True}, "use_adalora", "excludes pissa_init"),
    ({"use_adalora": True, "use_rslora": True}, "use_adalora", "excludes use_rslora"),
    ({"use_adalora": True, "adalora_init_r": 8}, "adalora_init_r", "lora_rank (8)"),
    ({"use_adalora": True, "loraplus_lr_ratio": 16}, "loraplus_lr_ratio", "leave it empty"),
    ({"pissa_init": True, **DPO}, "pissa_init", "simpo or orpo"),
    ({"pissa_init": True, "stage": "kto"}, "pissa_init", "no reference for kto"),
    ({"pissa_init": True, **GRPO, "kl_coef": 0.1}, "pissa_init", "set kl_coef: 0"),
    ({"pissa_init": True, "quantization_bit": 4}, "pissa_init", "leave quantization_bit empty"),
    ({"adapter_name_or_path": "a,b", "quantization_bit": 4}, "quantization_bit", "merge them first"),
    ({"adapter_name_or_path": "a", "create_new_adapter": True, "quantization_bit": 8}, "quantization_bit", "merge"),
    ({"adapter_name_or_path": "a", **FULL}, "adapter_name_or_path", "merge the adapter first"),
    ({"adapter_name_or_path": "a", "use_dora": True}, "use_dora", "create_new_adapter: true"),
    ({"adapter_name_or_path": "a", "additional_target": "lm_head"}, "additional_target", "leave this out"),
    ({"layers_to_transform": "3-1"}, "layers_to_transform", "such as 0-3,8"),
    ({"layers_to_transform": "last"}, "layers_to_transform", "such as 0-3,8"),
    ({"layers_to_transform": "1", "lora_target": ".*proj"}, "layers_to_transform", "regular expression"),
    ({"lora_target": "*_proj"}, "lora_target", "no regular expression"),
    ({**FREEZE, "freeze_trainable_layers": 0}, "freeze_trainable_layers", "train nothing"),
    ({**FREEZE, "use_llama_pro": True, "freeze_trainable_layers": -2}, "freeze_trainable_layers", "positive"),
    ({**DPO, "pref_loss": "orpo", "ref_model": "x"}, "ref_model", "no reference model"),
    ({**DPO, "pref_loss": "orpo", "pref_ftx": 1}, "pref_ftx", "no effect on orpo"),
    ({**DPO, "pref_loss": "simpo", "ld_alpha": 0.5}, "ld_alpha", "another pref_loss"),
    ({**DPO, "neftune_noise_alpha": 5}, "neftune_noise_alpha", "dpo compares likelihoods"),
    ({**GRPO, "neftune_noise_alpha": 5}, "neftune_noise_alpha", "leave it empty"),
    ({"stage": "rloo"}, "reward_funcs", "at least one of exact_match"),
    ({**GRPO, "reward_funcs": "lenght"}, "reward_funcs", "is none of exact_match"),
    ({**GRPO, "reward_funcs": "mine.py"}, "reward_funcs", "FILE.py:FUNCTION"),
    ({**GRPO, "reward_funcs": "mine.py:rate"}, "trust_reward_code", "read it"),
    ({**GRPO, "reward_weights": "1,2"}, "reward_weights", "each of the 1 rewards"),
    ({**GRPO, "reward_funcs": "format_match"}, "reward_pattern", "format_match needs it"),
    ({**GRPO, "reward_funcs": "format_match", "reward_pattern": "("}, "reward_pattern", "no regular expression"),
    ({**GRPO, "reward_funcs": "reward_model"}, "reward_model", "which model rates"),
    ({**GRPO, "reward_model": "run"}, "reward_model", "add reward_model to reward_funcs"),
    ({**GRPO, "num_generations": 5}, "num_generations", "that divides 16"),
    ({"warmup_steps": 5, "warmup_ratio": 0.1}, "warmup_ratio", "not both"),
    ({"max_steps": 0}, "max_steps", "train nothing"),
    ({"bf16": True, "fp16": True}, "fp16", "keep bf16"),
    ({"pure_bf16": True, "fp16": True}, "pure_bf16", "fp16: false"),
    ({"pure_bf16": True, "bf16": False}, "pure_bf16", "leave bf16 empty"),
    ({"optim": "schedule_free_adamw"}, "lr_scheduler_type", "set lr_scheduler_type: constant"),
    ({"lr_scheduler_kwargs": "fast"}, "lr_scheduler_kwargs", "key=value"),
    ({"lr_scheduler_kwargs": "{"}, "lr_scheduler_kwargs", "as JSON"),
    ({"lr_scheduler_kwargs": "power=2"}, "lr_scheduler_kwargs", "cosine has num_cycles, not power"),
    ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": "power=2"}, "lr_scheduler_kwargs", "linear has none"),
    (WSD, "lr_scheduler_kwargs", "num_decay_steps=100"),
    ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_kwargs", "min_lr=1e-6"),
    ({"optim": "galore_adamw"}, "optim", "set finetuning_type: full"),
    ({"use_dft_loss": True, "label_smoothing_factor": 0.1}, "label_smoothing_factor", "one of the two"),
    ({"report_to": "tensorboard,comet"}, "report_to", "got comet"),
    ({"report_to": "none,wandb"}, "report_to", "none alone"),
    ({"load_best_model_at_end": True}, "load_best_model_at_end", "set val_size"),
    ({"early_stopping_steps": 2}, "early_stopping_steps", "set val_size"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type", "set val_size"),
    ({"lr_scheduler_type": "reduce_lr_on_plateau", **EACH, "metric_for_best_model": "b_loss"}, "lr_scheduler_type",
     "follows one validation"),
    (EACH, "metric_for_best_model", "for example b_loss"),
    ({**DPO, "metric_for_best_model": "perplexity"}, "metric_for_best_model", "use loss"),
    ({"metric_for_best_model": "rewards/margins"}, "metric_for_best_model", "use loss"),
    ({"stage": "rm", "sample_prompts": "Who are you?"}, "sample_prompts", "writes none"),
    ({"devices": "0,1"}, "devices", "set parallel_strategy: ddp"),
    ({**DDP, "devices": "1,1"}, "devices", "GPU 1 twice"),
    ({**DDP, "devices": "0,1", "nproc_per_node": 4}, "nproc_per_node", "2 GPUs are named"),
    ({"nproc_per_node": 2}, "nproc_per_node", "without parallel_strategy: ddp"),
    ({"nnodes": 2}, "nnodes", "without parallel_strategy: ddp"),
    ({**DDP, "offload_optimizer": "cpu"}, "offload_optimizer", "without parallel_strategy: zero1"),
    ({"parallel_strategy": "zero2", "offload_param": "cpu"}, "offload_param", "without parallel_strategy: zero3"),
    ({"parallel_strategy": "device_map", "deepspeed": "{}"}, "deepspeed", "without parallel_strategy: zero1"),
    ({**ZERO3, "offload_param": "nvme"}, "nvme_path", "a local NVMe disk"),
    ({"parallel_strategy": "fsdp2", "offload_param": "nvme"}, "offload_param", "or parallel_strategy: zero3"),
    ({**ZERO3, "optim": "muon", **FULL}, "optim", "zero3 shards its work"),
    ({**ZERO3, "optim": "adamw_8bit", "offload_optimizer": "cpu"}, "optim", "needs its states on a GPU"),
    ({"parallel_strategy": "fsdp2", "optim": "adamw_8bit"}, "optim", "fsdp2 shards its work"),
    ({"parallel_strategy": "fsdp2", "quantization_bit": 4}, "quantization_bit", "or set parallel_strategy: ddp"),
    ({"parallel_strategy": "fsdp2", "pissa_init": True}, "pissa_init", "leave it out"),
    ({"parallel_strategy": "device_map", **FULL}, "parallel_strategy", "device_map is for LoRA"),
    ({"parallel_strategy": "device_map", **GRPO}, "stage", "one model at a time"),
    ({"parallel_strategy": "device_map", **DPO, "ref_model": "x"}, "ref_model", "one model at a time"),
    ({**ZERO3, "quantization_bit": 4}, "quantization_bit", "zero3 shards what this works on"),
    ({"parallel_strategy": "zero2", "use_adalora": True}, "use_adalora", "or set parallel_strategy: ddp"),
    ({"parallel_strategy": "zero2", "pure_bf16": True}, "pure_bf16", "set bf16: true"),
    ({"parallel_strategy": "zero2", "offload_optimizer": "nvme", "nvme_path": "/x"}, "offload_optimizer", "set cpu"),
    ({"parallel_strategy": "zero1", "optim": "schedule_free_sgd", "lr_scheduler_type": "constant"}, "optim", "shards"),
    ({"parallel_strategy": "fsdp2", "fp16": True}, "fp16", "set bf16: true"),
    ({"parallel_strategy": "fsdp2", "additional_target": "lm_head"}, "additional_target", "beside an adapter"),
    ({"parallel_strategy": "fsdp2", "resize_vocab": True}, "resize_vocab", "parallel_strategy: zero3"),
    ({"launcher": "slurm"}, "launcher", "set parallel_strategy: ddp"),
    ({**DDP, "slurm_partition": "gpu"}, "slurm_partition", "launcher: slurm"),
    ({"micro_batch_tokens": 4096, **GRPO}, "micro_batch_tokens", "without stage: pt or sft or dpo"),
    ({"micro_batch_tokens": 4096, **ZERO3}, "micro_batch_tokens", "parallel_strategy: single or ddp"),
    ({"fused_lora": True, **FULL}, "fused_lora", "without finetuning_type: lora"),
    ({"fused_lora": True, "lora_dropout": 0.1, "use_dora": True}, "fused_lora", "with lora_dropout, use_dora"),
    ({"fused_lora": True, "use_adalora": True}, "fused_lora", "with use_adalora"),
    ({"fused_lora": True, "quantization_bit": 8}, "fused_lora", "with quantization_bit: 8"),
    ({"enable_liger_kernel": True, **ZERO3}, "enable_liger_kernel", "not with zero3"),
    ({"fused_lora": True, **ZERO3}, "fused_lora", "with parallel_strategy: zero3"),
    ({**ZERO3, "deepspeed": {"tensor_parallel": {"autotp_size": 2}}}, "deepspeed", "splits layers"),
    ({**ZERO3, "deepspeed": "{"}, "deepspeed", "neither JSON"),
    ({**ZERO3, "deepspeed": "[1]"}, "deepspeed", "there is no file '[1]'"),
    ({**ZERO3, "deepspeed": {"zero_optimisation": {"stage": 3}}}, "deepspeed", "do you mean zero_optimization?"),
    ({**ZERO3, "deepspeed": {"zero_optimization": {"stage": 2}}}, "deepspeed", "parallel_strategy"),
]  # fmt: skip


@pytest.mark.parametrize("keys", LEGAL, ids=str)
def test_what_fits_together(keys):
    assert parse(TrainConfig, {"dataset": "a", **keys})


@pytest.mark.parametrize(("keys", "where", "words"), ILLEGAL, ids=str)
def test_what_does_not_is_refused_with_a_reason(keys, where, words):
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, {"dataset": "a", **keys})
    [problem] = caught.value.problems
    assert problem.where == where
    assert words in problem.what


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_is_broken_by_some_row(rule):
    broken = [keys for keys, where, _ in ILLEGAL if "." not in where and speaks(rule, keys)]
    assert broken


def speaks(rule, keys):
    try:
        return rule(TrainConfig.model_validate({"dataset": "a", **keys})) is not None
    except ValueError:
        return False


def test_a_switch_is_an_option_with_a_condition():
    conditional = {option.key for option in options(TrainConfig) if option.when}
    assert conditional >= SWITCHES


def test_schedules_take_the_settings_that_are_told_of_them():
    foreign = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    for name, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        taken = [key for key in inspect.signature(function).parameters if key not in foreign]
        if name.value in SCHEDULER_SETTINGS and name.value != "reduce_lr_on_plateau":
            assert sorted(taken) == sorted(SCHEDULER_SETTINGS[name.value])
        elif name.value in TrainConfig.model_fields["lr_scheduler_type"].annotation.__args__:
            assert taken in ([], ["kwargs"])
