"""LLaMA-Factory's keys that say nothing here, each with the reason. They are left out, and the user is told."""

from __future__ import annotations

OWN_COPIES = "processes that hold copies are set up as PyTorch does by itself"
OWN_SHARDS = "it only tunes how weights are sharded, which is done layer by layer"
LAUNCHED = "processes are started by torchrun or SLURM, not by Ray"
OWN_TIME = "rows are prepared before the first step"
SERVING = "chat and serving have settings of their own"
EXPORT = "merging and exporting are runs of their own"
WRITING = "answers are written by chat and evaluation, which have settings of their own"


def _of(switch: str, *keys: str) -> dict[str, str]:
    return {key: f"it only matters with {switch}, which is refused" for key in keys}


def _all(reason: str, *keys: str) -> dict[str, str]:
    return dict.fromkeys(keys, reason)


WITHOUT_EFFECT: dict[str, str] = {
    **_all("a train config always trains", "do_train"),
    **_all("it validates wherever rows are held out or eval_dataset is given", "do_eval"),
    **_all("a run's folder is never reused", "overwrite_output_dir"),
    **_all("every run is charted", "plot_loss", "logging_dir"),
    **_all(
        "figures come every logging_steps",
        "logging_strategy", "logging_first_step", "log_level", "log_level_replica", "log_on_each_node", "disable_tqdm",
    ),
    **_all("a NaN is never hidden", "logging_nan_inf_filter"),
    **_all(
        "tokens, their accuracy and their speed are always measured",
        "compute_accuracy", "include_effective_tokens_per_second", "include_num_input_tokens_seen",
        "include_tokens_per_second", "prediction_loss_only",
    ),
    **_all("memory is always shown", "skip_memory_metrics", "print_param_status"),
    **_all(
        OWN_TIME,
        "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order",
        "preprocessing_batch_size", "data_shared_file_system", "remove_unused_columns", "label_names",
        "length_column_name",
    ),
    **_all("padding is never trained on", "ignore_pad_token_for_loss"),
    **_all("a run that is stopped always saves a checkpoint", "enable_jit_checkpoint"),
    **_all("a resumed run goes on exactly where it was", "ignore_data_skip", "restore_callback_states_from_checkpoint"),
    **_all("models are always saved as safetensors", "save_safetensors"),
    **_all("the fast tokenizer is always used", "use_fast_tokenizer"),
    **_all("models are always loaded that way", "low_cpu_mem_usage", "quantization_device_map"),
    **_all("whether more or less is better is known of every figure", "greater_is_better"),
    **_all("the device's own memory is used first", "offload_folder"),
    **_all("checkpointing is set up by the trainer", "use_reentrant_gc", "gradient_checkpointing_kwargs"),
    **_all(
        "all weights are updated together: the same result, with more memory for gradients",
        "galore_layerwise", "apollo_layerwise",
    ),
    **_all("which kernels of Liger's take part follows from the model", "liger_kernel_config"),
    **_all("the cache of keys and values is of use when writing only", "use_kv_cache", "use_cache"),
    **_all("validation computes as training does", "bf16_full_eval", "fp16_full_eval"),
    **_all(
        "validation keeps figures only, not logits",
        "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object", "include_for_metrics",
        "batch_eval_metrics",
    ),
    **_all(
        OWN_COPIES,
        "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph",
    ),
    **_all("processes speak over NCCL between GPUs and gloo between CPUs", "ddp_backend"),
    **_all("each process is told its number by what starts it", "local_rank"),
    **_all("a loss is always the mean over the tokens of all processes", "average_tokens_across_devices"),
    **_all("all nodes see the same folder", "save_on_each_node"),
    **_all(OWN_SHARDS, "fsdp_transformer_layer_cls_to_wrap"),
    **_all(LAUNCHED, "ray_num_workers", "ray_num_cpus_per_worker", "ray_init_kwargs"),
    **_all(
        SERVING,
        "infer_backend", "infer_dtype", "vllm_maxlen", "vllm_gpu_util", "vllm_enforce_eager", "vllm_max_lora_rank",
        "vllm_config", "sglang_maxlen", "sglang_mem_fraction", "sglang_tp_size", "sglang_config", "sglang_lora_backend",
    ),
    **_all(
        EXPORT,
        "export_dir", "export_size", "export_device", "export_quantization_bit", "export_quantization_dataset",
        "export_quantization_nsamples", "export_quantization_maxlen", "export_legacy_format", "export_hub_model_id",
    ),
    **_all(
        WRITING,
        "do_sample", "num_beams", "max_length", "max_new_tokens", "repetition_penalty", "length_penalty",
        "skip_special_tokens", "eval_num_beams", "generation_config", "generation_max_length", "generation_num_beams",
    ),
    **_of("finetuning_type: oft", "module_dropout", "oft_rank", "oft_block_size", "oft_target"),
    **_of("stage: ppo", "ppo_buffer_size", "ppo_epochs", "ppo_score_norm", "ppo_target", "ppo_whiten_rewards"),
    **_of("stage: ppo", "reward_model_type"),
    **_of(
        "use_badam",
        "badam_mode", "badam_start_block", "badam_switch_mode", "badam_switch_interval", "badam_update_ratio",
        "badam_mask_mode", "badam_verbose",
    ),
    **_of(
        "use_swanlab",
        "swanlab_project", "swanlab_workspace", "swanlab_run_name", "swanlab_mode", "swanlab_api_key", "swanlab_logdir",
        "swanlab_lark_webhook_url", "swanlab_lark_secret",
    ),
    **_of("report_to: trackio", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    **_of("use_hyper_parallel", "hyper_parallel_args", "hyper_parallel_cp_size"),
    **_of("use_asft_loss", "asft_alpha"),
    **_of("use_eaft_loss", "eaft_alpha"),
    **_of("num_mtp_layers", "mtp_loss_weight"),
    **_of("fp8", "fp8_backend", "fp8_enable_fsdp_float8_all_gather"),
    **_of("packing_strategy: semantic_aware", "packing_similarity_threshold", "packing_embedding_model"),
    **_of("new_special_tokens_config", "init_special_tokens"),
    **_of("predict_with_generate", "sortish_sampler"),
    **_of("torch_compile", "torch_compile_backend", "torch_compile_mode"),
    **_of("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
    **_of(
        "use_kt",
        "kt_cpu_activation", "kt_weight_path", "kt_non_expert_weight_path", "kt_expert_checkpoint_path",
        "kt_use_lora_experts", "kt_lora_expert_num", "kt_lora_expert_intermediate_size", "kt_config",
    ),
    **_of(
        "enable_torch_profiler",
        "profiler_output_dir", "profiler_wait_steps", "profiler_warmup_steps", "profiler_active_steps",
        "profiler_repeat", "profiler_record_shapes", "profiler_profile_memory", "profiler_with_stack",
    ),
}  # fmt: skip
