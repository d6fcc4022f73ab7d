"""LLaMA-Factory keys that are not options here: those without effect, and those refused with what to use instead."""

from __future__ import annotations

WITHOUT_EFFECT = {
    "do_train": "a train config always trains",
    "output_dir": "every run has its own folder under saves/; its last part becomes run_name",
    "overwrite_output_dir": "a run's folder is never reused",
    "plot_loss": "every run is charted",
    "dataloader_num_workers": "rows are prepared before the first step",
    "ddp_timeout": "time-outs are set by the launcher",
    "save_only_model": "checkpoints are always complete, so that every run can be resumed",
    "use_fast_tokenizer": "the fast tokenizer is always used",
}

INSTEAD = {
    "dataset_map_workers": "nothing: workers are sized to the data",
    "deepspeed": "one process for now: remove the key",
    "fsdp": "one process for now: remove the key",
    "neat_packing": "packing: true (rows never see each other here)",
    "disable_gradient_checkpointing": "gradient_checkpointing: false (the default here)",
    "enable_liger_kernel": "nothing: remove the key",
    "use_unsloth": "nothing: remove the key",
    "eval_strategy": "eval_steps",
    "save_strategy": "save_steps",
    "oft_block_size": "finetuning_type: lora, with lora_rank",
    "oft_target": "finetuning_type: lora, with lora_target",
    "use_galore": "finetuning_type: lora, which saves more memory",
    "use_apollo": "finetuning_type: lora, which saves more memory",
    "use_badam": "finetuning_type: lora, which saves more memory",
    "use_adam_mini": "optim: adamw_torch",
    "use_muon": "optim: adamw_torch",
    "mixture_of_depths": "nothing: remove the key",
    "use_kt": "a model that fits the device, with finetuning_type: lora",
    "fp8": "bf16: true",
    "tokenized_path": "nothing: rows are tokenised before each run",
    "image_max_pixels": "text data with a text model",
    "video_max_pixels": "text data with a text model",
    "freeze_vision_tower": "text data with a text model",
    "freeze_multi_modal_projector": "text data with a text model",
    "freeze_language_model": "text data with a text model",
}
