"""What the Train form leads to, as a panel beside it: what is wrong or doubtful, and the plan of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
import msgspec

from studio.config.option import options
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem
from studio.models import display_name
from studio.planning import Course, Plan, Verdict
from studio.preflight import Outlook
from studio.ui import panel

GROUPS = {option.key: option.group for option in options(TrainConfig)}
METHODS = {"full": "full fine-tuning", "freeze": "some layers"}


def draw() -> gr.HTML:
    """The panel. Its value is what `problems` or `ready` give; `select` asks for the change of settings it offers."""
    return panel.draw("train_outlook", [], shared=["options"], elem_id="train-verdict")


def problems(error: ConfigError, changed: Mapping[str, Sequence[str]], draft: str) -> str:
    """The panel of a form that cannot start; `changed` are the keys of each section that are not at their default,
    `draft` is what the browser keeps of the form."""
    return _told({"state": "problems", "problems": _listed(error.problems), "changed": changed, "draft": draft})


def ready(config: TrainConfig, outlook: Outlook, plan: Plan, changed: Mapping[str, Sequence[str]], draft: str) -> str:
    """The panel of a form that can start, after a look at what the checks say of its data."""
    return _told(
        {
            "state": "doubtful" if outlook.warnings else "ready",
            "problems": _listed(outlook.warnings),
            "notes": [*outlook.notes, *plan.unknown],
            "subject": [display_name(config.model_name_or_path), _method(config), ", ".join(config.dataset)],
            "plan": _plan(config, plan),
            "changed": changed,
            "draft": draft,
        }
    )


def _told(answer: Mapping[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()


def _listed(found: Sequence[Problem]) -> list[dict[str, str]]:
    """Each with the section of the option that it is about; an empty one for what is no option."""
    return [{"where": each.where, "what": each.what, "group": GROUPS.get(each.where, "")} for each in found]


def _method(config: TrainConfig) -> str:
    bits = f", {config.quantization_bit} bit" if config.quantization_bit else ""
    method = METHODS.get(config.finetuning_type, f"LoRA, rank {config.lora_rank}{bits}")
    return method if config.stage == "sft" else f"{config.stage} · {method}"


def _plan(config: TrainConfig, plan: Plan) -> dict[str, Any]:
    """Sizes in GB, times in seconds; None for what is not known yet."""
    return {
        "rows_a_step": plan.effective_batch,
        "batch": _batch(config, plan.processes),
        "epochs": config.num_train_epochs if config.max_steps < 0 else None,
        **asdict(plan.schedule),
        "seconds": plan.seconds,
        "paced_by": plan.pace.run_id if plan.pace else None,
        "parameters": plan.parameters,
        "trainable": plan.trainable,
        "disk_gb": plan.disk_gb,
        "disk_free_gb": plan.disk_free_gb,
        "memory": _memory(plan.verdict) if plan.verdict else None,
    }


def _batch(config: TrainConfig, processes: int) -> list[int]:
    """What is multiplied to the rows of a step."""
    alone = [config.per_device_train_batch_size, config.gradient_accumulation_steps]
    return [*alone, processes] if processes > 1 else alone


def _course(course: Course) -> dict[str, Any]:
    """The passes of a step; none where its batches go through as they are."""
    return {**asdict(course.passes), "passes": course.count, "step_tokens": course.step.mean, "layers": course.layers}


def _memory(verdict: Verdict) -> dict[str, Any]:
    return {
        "parts": [part for part in asdict(verdict.memory).items() if part[1] > 0],
        "total_gb": verdict.memory.total_gb,
        "free_gb": verdict.free_gb,
        "device": verdict.device,
        "devices": verdict.devices,
        "host_gb": verdict.host_gb,
        "host_free_gb": verdict.host_free_gb,
        "fits": verdict.fits,
        "course": _course(verdict.course),
        "retry": verdict.retry,
    }
