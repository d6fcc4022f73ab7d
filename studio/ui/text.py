"""Every text of the page, in English and Chinese. The browser's language chooses."""

from __future__ import annotations

import zlib

import gradio as gr

ENGLISH: dict[str, str] = {}
CHINESE: dict[str, str] = {}

GROUPS = {
    "model": ("Model", "模型"),
    "method": ("Method", "方法"),
    "lora": ("LoRA", "LoRA"),
    "freeze": ("Freeze", "冻结"),
    "quantisation": ("Quantisation", "量化"),
    "preference": ("Preference", "偏好"),
    "reward": ("Rewards", "奖励"),
    "data": ("Data", "数据"),
    "optimisation": ("Optimisation", "优化"),
    "optimizer": ("Optimizer", "优化器"),
    "precision": ("Precision and memory", "精度与显存"),
    "evaluation": ("Evaluation", "验证"),
    "saving": ("Checkpoints", "检查点"),
    "trackers": ("Trackers", "跟踪器"),
    "advanced": ("Advanced", "高级"),
    "server": ("Server", "服务"),
    "adapters": ("Adapters", "适配器"),
    "parallel": ("Several devices", "多设备并行"),
    "cache": ("Memory and cache", "显存与缓存"),
    "merge": ("Merge", "合并"),
    "arena": ("Arena", "竞技场"),
    "bench": ("Benchmark", "基准测试"),
    "gguf": ("GGUF", "GGUF"),
    "ollama": ("Ollama", "Ollama"),
    "quantize": ("Quantise", "量化"),
    "adapter": ("Adapter tools", "适配器工具"),
    "push": ("Upload", "上传"),
    "consolidate": ("Consolidate", "合并分片"),
    "sampling": ("Sampling", "采样"),
}


def said(english: str, chinese: str) -> gr.i18n.I18nData:
    """A text that the browser shows in its own language."""
    # the page looks keys up by dotted path and stops at a brace, so the text itself cannot be the key
    key = f"t{zlib.crc32(english.encode()):08x}"
    ENGLISH[key] = english
    CHINESE[key] = chinese
    return gr.I18n()(key)


def group_title(group: str) -> gr.i18n.I18nData:
    """The heading of a form section."""
    return said(*GROUPS[group])


def translations() -> gr.I18n:
    """Everything said so far, for the page. Chinese speakers of every region get the same text."""
    return gr.I18n(**{"en": ENGLISH, "zh": CHINESE, "zh-CN": CHINESE, "zh-TW": CHINESE})
