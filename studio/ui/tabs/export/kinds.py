"""What the sub-pages of the Export tab differ in: their declarations, their plans, their words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studio.config.adapter import AdapterConfig
from studio.config.gguf import GgufConfig
from studio.config.load import RunConfig
from studio.config.merge import MergeConfig
from studio.config.ollama import OllamaConfig
from studio.config.option import options
from studio.config.push import PushConfig
from studio.config.quantize import QuantizeConfig
from studio.exports import adapter, gguf, merge, ollama, push, quantize
from studio.exports.plan import Plan
from studio.runs.outputs import Output
from studio.runs.store import Store
from studio.ui.form import HIDDEN_GROUPS

Words = tuple[str, str]  # English, Chinese


@dataclass(frozen=True)
class Kind:
    """One sub-page.

    Attributes:
        config: the declarations of its options.
        plan: what a configuration would do; ConfigError where it cannot be done.
        prefix: of the ids of its elements in the page.
        title: what its tab is called.
        verb: what its button says.
        need: what to do where there is nothing to work on, in Markdown.
        none: what to do where nothing was made yet.
        subject: the option that holds what is worked on; a result that is taken here becomes its value.
        by_run: whether the subject is the id of a run rather than the folder that it made.
        proposes: whether the newest of what the subject takes is proposed.
        called: the name that is proposed for what comes out, where {} is what the subject is called; none where empty.
    """

    config: type[RunConfig]
    plan: Callable[[Store, Any], Plan]
    prefix: str
    title: Words
    verb: Words
    need: Words
    none: Words
    subject: str = "model_name_or_path"
    by_run: bool = False
    proposes: bool = True
    called: str = ""

    @property
    def name(self) -> str:
        """The kind of its runs."""
        return str(self.config.model_fields["kind"].default)

    @property
    def groups(self) -> tuple[str, ...]:
        """The sections of its form."""
        named = dict.fromkeys(option.group for option in options(self.config))
        return tuple(group for group in named if group not in HIDDEN_GROUPS)

    def holds(self, made: Output) -> Any:
        """What the picker of the subject holds for what a run made."""
        value = made.run.id if self.by_run else str(made.path)
        takes_several = any(option.kind == "list" for option in options(self.config) if option.key == self.subject)
        return [value] if takes_several else value


KINDS = (
    Kind(
        MergeConfig, merge.plan, "export", ("Merge", "合并"), ("Merge", "合并"),
        need=(
            "### Nothing to merge yet\nTrain a LoRA in the Train tab, or type the folder of an adapter.",
            "### 还没有可合并的适配器\n请先在训练页训练一个 LoRA，或填写适配器文件夹。",
        ),
        none=(
            "Nothing was merged yet. Choose an adapter above and press Merge.",
            "尚无合并记录。请在上方选择适配器并点击合并。",
        ),
        subject="adapter_name_or_path", called="{}-merged",
    ),
    Kind(
        GgufConfig, gguf.plan, "gguf", ("GGUF", "GGUF"), ("Convert", "转换"),
        need=(
            "### Nothing to convert yet\nChoose a model; an adapter is merged first.",
            "### 还没有可转换的模型\n请选择模型；适配器需先合并。",
        ),
        none=(
            "Nothing was converted yet. Choose a model above: a GGUF file is what llama.cpp, LM Studio and Ollama run.",
            "尚无转换记录。请在上方选择模型：llama.cpp、LM Studio 与 Ollama 使用 GGUF 文件。",
        ),
        called="{}",
    ),
    Kind(
        OllamaConfig, ollama.plan, "ollama", ("Ollama", "Ollama"), ("Make the folder", "生成文件夹"),
        need=(
            "### Nothing to export yet\nChoose a model; an adapter is merged first.",
            "### 还没有可导出的模型\n请选择模型；适配器需先合并。",
        ),
        none=(
            "Nothing was made for Ollama yet. Choose a model above: its folder has a GGUF file and a Modelfile.",
            "尚未为 Ollama 导出。请在上方选择模型：导出的文件夹包含 GGUF 文件和 Modelfile。",
        ),
        called="{}",
    ),
    Kind(
        QuantizeConfig, quantize.plan, "quantize", ("Quantise", "量化"), ("Quantise", "量化"),
        need=(
            "### Nothing to quantise yet\nChoose a model; an adapter is merged first.",
            "### 还没有可量化的模型\n请选择模型；适配器需先合并。",
        ),
        none=(
            "Nothing was quantised yet. Choose a model above: smaller weights take less memory and are served faster.",
            "尚无量化记录。请在上方选择模型：更小的权重占用更少内存，推理更快。",
        ),
    ),
    Kind(
        AdapterConfig, adapter.plan, "adapter", ("Adapter tools", "适配器工具"), ("Make the adapter", "生成适配器"),
        need=(
            "### Nothing chosen yet\nChoose what to do, and the adapters or models to do it with.",
            "### 尚未选择\n请选择操作，以及要处理的适配器或模型。",
        ),
        none=(
            "No adapter was made here yet. Extract one from a fine-tuned model, or convert, scale or average others.",
            "尚未在此生成适配器。可从微调后的模型提取，或转换、缩放、平均其他适配器。",
        ),
        subject="adapter_name_or_path", proposes=False,
    ),
    Kind(
        PushConfig, push.plan, "push", ("Upload", "上传"), ("Upload", "上传"),
        need=(
            "### Nothing to upload yet\nChoose what a finished run made, or type a folder, and name the repository.",
            "### 还没有可上传的内容\n请选择已完成运行的产物或填写文件夹，并填写仓库名。",
        ),
        none=(
            "Nothing was uploaded yet. Choose a result above and press Upload: private unless you say otherwise.",
            "尚无上传记录。请在上方选择产物并点击上传：除非另行指定，仓库为私有。",
        ),
        by_run=True, proposes=False,
    ),
)  # fmt: skip
