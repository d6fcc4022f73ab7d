"""The keys that DeepSpeed 0.19.8 knows in its settings; a test compares them with DeepSpeed's own.

It ignores what it does not know at the top, and ends the training with a traceback for what it does not know below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

# section ("" is the top) -> its keys; sections that are not listed may hold anything
KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "activation_checkpointing", "aio", "autotuning", "bf16", "bfloat16", "checkpoint", "comet", "comms_logger",
        "communication_data_type", "compile", "csv_monitor", "data_efficiency", "data_types", "dataloader_drop_last",
        "datastates_ckpt", "disable_allgather", "disable_python_gc", "dump_state", "expert_parallel", "flops_profiler",
        "fp16", "gradient_accumulation_steps", "gradient_allreduce_op", "gradient_clipping",
        "gradient_predivide_factor", "hybrid_engine", "log_level", "managed_gradient_accumulation", "memory_breakdown",
        "optimizer", "pipeline", "prescale_gradients", "scheduler", "seq_parallel_communication_data_type",
        "steps_per_print", "tensor_parallel", "tensorboard", "timers", "torch_autocast", "train_batch_size",
        "train_micro_batch_size_per_gpu", "use_data_before_expert_parallelism", "vocabulary_size",
        "wall_clock_breakdown", "wandb", "weight_quantization", "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer", "zero_optimization",
    ),
    "zero_optimization": (
        "stage", "contiguous_gradients", "reduce_scatter", "reduce_bucket_size", "use_multi_rank_bucket_allreduce",
        "allgather_partitions", "allgather_bucket_size", "overlap_comm", "compute_grad_norm", "load_from_fp32_weights",
        "elastic_checkpoint", "offload_param", "offload_optimizer", "zenflow", "sub_group_size", "cpu_offload_param",
        "cpu_offload_use_pin_memory", "cpu_offload", "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold", "stage3_model_persistence_threshold", "stage3_max_live_parameters",
        "stage3_max_reuse_distance", "stage3_gather_16bit_weights_on_model_save",
        "stage3_module_granularity_threshold", "stage3_use_all_reduce_for_fetch_params",
        "stage3_allgather_sequential", "stage3_gather_fp16_weights_on_model_save", "ignore_unused_parameters",
        "legacy_stage1", "round_robin_gradients", "parameter_alignment", "zero_hpz_partition_size",
        "zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients",
        "memory_efficient_linear", "pipeline_loading_checkpoint", "override_module_apply",
        "log_trace_cache_warnings", "enable_sanity_checks", "save_muon_momentum_buffer_in_memory", "leaf_module",
    ),
    "zero_optimization.offload_optimizer": (
        "device", "nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init", "ratio",
        "super_offload", "cpuadam_cores_perc",
    ),
    "zero_optimization.offload_param": (
        "device", "nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory",
    ),
    "bf16": (
        "enabled", "immediate_grad_update", "check_grad_overflow", "bf16_master_weights_and_grads",
        "bf16_optimizer_states",
    ),
    "fp16": (
        "enabled", "auto_cast", "loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
        "consecutive_hysteresis", "min_loss_scale", "fp16_master_weights_and_grads",
    ),
    "torch_autocast": ("enabled", "dtype", "lower_precision_safe_modules"),
    "aio": ("block_size", "queue_depth", "intra_op_parallelism", "single_submit", "overlap_events", "use_gds"),
    "optimizer": ("type", "params", "legacy_fusion"),
    "scheduler": ("type", "params"),
    "comms_logger": ("enabled", "prof_all", "prof_ops", "verbose", "debug"),
    "data_types": ("grad_accum_dtype", "param_dtype", "buffer_dtype", "keep_in_fp32_modules"),
    "checkpoint": ("tag_validation", "load_universal", "use_node_local_storage", "parallel_write"),
    "activation_checkpointing": (
        "partition_activations", "number_checkpoints", "contiguous_memory_optimization",
        "synchronize_checkpoint_boundary", "profile", "cpu_checkpointing",
    ),
    "flops_profiler": (
        "enabled", "recompute_fwd_factor", "profile_step", "module_depth", "top_modules", "detailed", "output_file",
    ),
    "tensor_parallel": (
        "dtype", "autotp_size", "tp_overlap_comm", "vocab_parallel_lm_head", "vocab_parallel_ce_backend", "tp",
        "injection_policy_tuple", "partition_config", "preset_model", "keep_module_on_host", "kernel_inject",
    ),
}  # fmt: skip
# of the sections that are checked value by value: the keys that take a number, and those that take neither that nor
# a switch
NUMBERS: dict[str, tuple[str, ...]] = {
    "zero_optimization": (
        "stage", "reduce_bucket_size", "allgather_bucket_size", "sub_group_size", "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold", "stage3_model_persistence_threshold", "stage3_max_live_parameters",
        "stage3_max_reuse_distance", "stage3_module_granularity_threshold", "zero_hpz_partition_size",
    ),
    "zero_optimization.offload_optimizer": ("buffer_count", "ratio", "cpuadam_cores_perc"),
    "zero_optimization.offload_param": ("buffer_count", "buffer_size", "max_in_cpu"),
}  # fmt: skip
NEITHER = ("offload_param", "offload_optimizer", "zenflow", "leaf_module", "device", "nvme_path")
REMOVED = {
    "amp": "use bf16 or fp16",
    "compression_training": "leave it out",
    "curriculum_learning": "it is data_efficiency.data_sampling.curriculum_learning now",
    "eigenvalue": "leave it out",
    "elasticity": "leave it out",
    "graph_harvesting": "leave it out",
    "nebula": "leave it out",
    "progressive_layer_drop": "leave it out",
    "quantize_training": "leave it out",
    "sparse_attention": "leave it out",
    "sparse_gradients": "leave it out",
    "zero_optimization.mics_hierarchical_params_gather": "leave it out",
    "zero_optimization.mics_shard_size": "leave it out",
    "zero_optimization.zeropp_loco_param": "leave it out",
}


def unknown(settings: Mapping[str, Any], section: str = "") -> Iterator[str]:
    """A sentence for each key that DeepSpeed does not know, with the nearest one that it does."""
    known = KEYS.get(section)
    for key, value in settings.items():
        name = f"{section}.{key}" if section else key
        if name in REMOVED:
            yield f"{name} is gone from DeepSpeed: {REMOVED[name]}"
        elif known and key not in known:
            near = get_close_matches(key, known, n=1)
            yield f"DeepSpeed knows no {name}" + (f"; do you mean {near[0]}?" if near else _elsewhere(key))
        elif isinstance(value, Mapping):
            yield from unknown(value, name)


def misused(settings: Mapping[str, Any], section: str) -> Iterator[str]:
    """A sentence for each value of a section that is of another kind than its key takes."""
    for key, value in settings.items():
        if key not in KEYS[section] or key in NEITHER or value in (None, "auto"):
            continue
        if key not in NUMBERS[section]:
            right, kind = isinstance(value, bool), "true or false"
        else:
            right, kind = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        if not right:
            yield f"{section}.{key} is {kind} (got {value!r})"


def _elsewhere(key: str) -> str:
    """Where a key belongs that is right but in the wrong section."""
    places = [section or "the top" for section, names in KEYS.items() if key in names]
    return f"; it belongs into {places[0]}" if places else ""
