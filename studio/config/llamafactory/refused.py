"""LLaMA-Factory's keys and values that cannot be done here, each with what to use instead."""

from __future__ import annotations

TEXT_ONLY = "text data with a text model"
SHARDED = "parallel_strategy: zero3 or fsdp2, which shard every layer and split none"
NOTHING = "nothing: remove the key"
FUSED = "nothing: enable_liger_kernel, fused_lora and the fused loss take the place of compiled layers"
LESS_MEMORY = "optim: adamw_8bit, galore_adamw or apollo_adamw, or finetuning_type: lora"
ENVIRONMENT = "the environment: HF_TOKEN, which is never written to a run"
BY_MODEL = "model_name_or_path: a local folder that holds that model"

INSTEAD: dict[str, str] = {
    # distribution
    "accelerator_config": "nothing: rows are dealt out to the processes evenly, in the order of the seed",
    "parallelism_config": SHARDED,
    "use_mca": SHARDED,
    "use_megatron_bridge": SHARDED,
    "use_hyper_parallel": SHARDED,
    "use_kt": "finetuning_type: lora with quantization_bit: 4",
    # speed and memory
    "use_unsloth": NOTHING,
    "use_unsloth_gc": "gradient_checkpointing: on",
    "use_v1_kernels": NOTHING,
    "torch_compile": FUSED,
    "torch_empty_cache_steps": "gradient_checkpointing: on",
    "auto_find_batch_size": "per_device_train_batch_size, with the memory that the form foretells",
    "tf32": "bf16: true",
    "fp8": "bf16: true",
    "upcast_layernorm": "bf16: false, which computes everything in float32",
    "upcast_lmhead_output": "bf16: false, which computes everything in float32",
    "use_cpu": "CUDA_VISIBLE_DEVICES= in the environment",
    "no_cuda": "CUDA_VISIBLE_DEVICES= in the environment",
    "group_by_length": "packing: true",
    "train_sampling_strategy": "packing: true",
    "enable_torch_profiler": NOTHING,
    "profile_modules": NOTHING,
    "debug": NOTHING,
    # optimizers and losses
    "use_badam": LESS_MEMORY,
    "use_adam_mini": LESS_MEMORY,
    "optim_args": "the options of the optimizer, such as adam_beta1",
    "optim_target_modules": "galore_target or apollo_target",
    "apollo_proj_type": "apollo_proj, with the side that the weight's shape gives",
    "apollo_scale_front": "max_grad_norm",
    "use_asft_loss": "use_dft_loss",
    "use_eaft_loss": "use_dft_loss",
    "pref_bco_weight": "pref_loss: bco_pair",
    "num_mtp_layers": NOTHING,
    "data_seed": "seed",
    "full_determinism": "seed: the same seed gives the same run on one CPU",
    "eval_delay": "eval_steps",
    "eval_on_start": "eval_steps",
    "dataloader_drop_last": "max_steps, to end after a whole number of batches",
    # preference
    "ref_model_adapters": "ref_model: the merged model's folder",
    "ref_model_quantization_bit": "ref_model left empty: the reference is then the base below the adapter",
    "reward_model_adapters": "reward_model: the rm run",
    "reward_model_quantization_bit": "reward_model: the rm run",
    # model
    "cache_dir": "HF_HOME in the environment",
    "model_revision": BY_MODEL,
    "train_from_scratch": BY_MODEL,
    "mixture_of_depths": NOTHING,
    "shift_attn": "rope_scaling, with flash_attn: fa2",
    "adapter_folder": "adapter_name_or_path: the whole path",
    "split_special_tokens": NOTHING,
    "new_special_tokens_config": "add_special_tokens",
    "freeze_original_embeddings": "additional_target: embed_tokens",
    # data
    "packing_strategy": "packing: true, which packs by length",
    "tokenized_path": "nothing: encoded rows are kept and found again without it",
    "tool_format": "template, which writes tools in its own way",
    "reasoning_effort": "enable_thinking",
    "preserve_thinking": "template, which says what is kept of earlier thinking",
    "disable_shuffling": "seed: rows are drawn in the order that it gives",
    "media_dir": TEXT_ONLY,
    "image_max_pixels": TEXT_ONLY,
    "image_min_pixels": TEXT_ONLY,
    "image_do_pan_and_scan": TEXT_ONLY,
    "crop_to_patches": TEXT_ONLY,
    "video_max_pixels": TEXT_ONLY,
    "video_min_pixels": TEXT_ONLY,
    "video_fps": TEXT_ONLY,
    "video_maxlen": TEXT_ONLY,
    "use_audio_in_video": TEXT_ONLY,
    "audio_sampling_rate": TEXT_ONLY,
    "freeze_vision_tower": TEXT_ONLY,
    "freeze_multi_modal_projector": TEXT_ONLY,
    "freeze_language_model": TEXT_ONLY,
    # other work than training
    "do_predict": "the Chat tab with the run's adapter",
    "predict_with_generate": "sample_prompts, or the Chat tab with the run's adapter",
    # trackers, hubs and their secrets
    "use_swanlab": "report_to: tensorboard, wandb or mlflow",
    "push_to_hub": "the run's own folder, which python -m studio push RUN owner/name uploads",
    "hub_token": ENVIRONMENT,
    "hf_hub_token": ENVIRONMENT,
    "ms_hub_token": "the environment: MODELSCOPE_API_TOKEN, which is never written to a run",
    "om_hub_token": BY_MODEL,
}
# what LLaMA-Factory's own defaults say of a refused key asks for nothing
NEUTRAL: dict[str, object] = {
    "packing_strategy": "length",
    "model_revision": "main",
    "apollo_proj_type": "std",
    "train_sampling_strategy": "random",
    "reasoning_effort": "xhigh",
    "num_mtp_layers": 0,
    "pref_bco_weight": 0,
    "debug": "",
}
VALUES_INSTEAD: dict[tuple[str, str], str] = {
    ("stage", "ppo"): "stage: rloo or grpo, with reward_funcs: reward_model",
    ("finetuning_type", "oft"): "finetuning_type: lora",
    ("quantization_method", "hqq"): "quantization_method: bnb, with quantization_bit 4 or 8",
    ("quantization_method", "eetq"): "quantization_method: bnb, with quantization_bit: 8",
    ("mix_strategy", "interleave_once"): "mix_strategy: concat, which takes every row once",
    ("lr_scheduler_type", "greedy"): "lr_scheduler_type: reduce_lr_on_plateau",
    ("report_to", "all"): "report_to: the names, such as tensorboard,wandb",
}
