"""LLaMA-Factory keys that are not options here: those without effect, and those refused with what to use instead."""

from __future__ import annotations

WITHOUT_EFFECT = {
    "do_train": "a train config always trains",
    "output_dir": "every run has its own folder under saves/; its last part becomes run_name",
    "overwrite_output_dir": "a run's folder is never reused",
    "plot_loss": "every run is charted",
    "overwrite_cache": "there is no stale cache to overwrite",
    "preprocessing_num_workers": "workers are sized to the data",
    "dataloader_num_workers": "rows are prepared before the first step",
    "report_to": "metrics go to the run's folder",
    "ddp_timeout": "time-outs are set by the launcher",
    "save_only_model": "checkpoints are always complete, so that every run can be resumed",
    "use_fast_tokenizer": "the fast tokenizer is always used",
}

INSTEAD = {
    "dataset_map_workers": "nothing: workers are sized to the data",
    "quantization_bit": "finetuning_type: lora on the 16-bit model",
    "quantization_method": "finetuning_type: lora on the 16-bit model",
    "deepspeed": "one process for now: remove the key",
    "fsdp": "one process for now: remove the key",
    "neat_packing": "packing: true (rows never see each other here)",
    "flash_attn": "nothing: the fastest attention that is installed is used",
    "use_dora": "use_rslora, or plain LoRA with a higher lora_rank",
    "loraplus_lr_ratio": "learning_rate",
    "additional_target": "lora_target",
    "create_new_adapter": "merge the first adapter, then train on the merged model",
    "adapter_name_or_path": "merge the adapter, then train on the merged model",
    "freeze_trainable_layers": "finetuning_type: lora",
    "pure_bf16": "bf16: true",
    "disable_gradient_checkpointing": "gradient_checkpointing: false (the default here)",
    "enable_liger_kernel": "nothing: remove the key",
    "use_unsloth": "nothing: remove the key",
    "streaming": "max_samples",
    "mix_strategy": "nothing: datasets are concatenated",
    "interleave_probs": "nothing: datasets are concatenated",
    "eval_dataset": "val_size",
    "eval_strategy": "eval_steps",
    "save_strategy": "save_steps",
    "pref_beta": "stage: sft",
    "pref_loss": "stage: sft",
    "reward_model": "stage: sft",
}
