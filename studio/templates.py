"""Named chat templates, for models without one of their own or with another than was wanted.

A name that LLaMA-Factory has too means the same format here, but never with a system prompt that nobody asked for.
Each text marks answers with {% generation %}; tokens are written out, or taken from the tokenizer as bos_token and
eos_token. Imports no transformers: pages and checks ask here, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from studio.settings import ASSETS

FOLDER = ASSETS / "templates"
# what a text with a fixed mode of thinking begins with; a request that says otherwise still wins
THINKING = "{{%- if enable_thinking is not defined %}}{{%- set enable_thinking = {value} %}}{{%- endif %}}\n"


@dataclass(frozen=True)
class Template:
    """`tokens` are those that it writes beside bos_token and eos_token; `end` of them ends an answer.

    Where `end` is empty, eos_token does. <think>, and [INST] of older models, may well be spelled in pieces.
    """

    name: str
    end: str = ""
    tokens: tuple[str, ...] = ()


def _of(name: str, end: str = "", others: str = "") -> tuple[str, Template]:
    return name, Template(name, end, tuple([end] * bool(end) + others.split()))


CHATML = ("<|im_end|>", "<|im_start|>")
TEMPLATES = dict(
    (
        _of("alpaca"),
        _of("chatml", *CHATML),
        _of("cohere", "<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>"),
        _of("deepseek"),
        _of("deepseek3", others="<｜User｜> <｜Assistant｜>"),
        _of("deepseekr1", others="<｜User｜> <｜Assistant｜>"),
        _of("default"),
        _of("exaone", "[|endofturn|]", "[|system|] [|user|] [|assistant|]"),
        _of("gemma", "<end_of_turn>", "<start_of_turn>"),
        _of("glm4", "<|user|>", "<|observation|> <|assistant|> <|system|> [gMASK] <sop>"),
        _of("glm4_moe", "<|user|>", "<|observation|> <|assistant|> <|system|> [gMASK] <sop>"),
        _of("granite3", "<|end_of_text|>", "<|start_of_role|> <|end_of_role|>"),
        _of("intern2", *CHATML),
        _of("llama2"),
        _of("llama3", "<|eot_id|>", "<|start_header_id|> <|end_header_id|>"),
        _of("llama4", "<|eot|>", "<|header_start|> <|header_end|>"),
        _of("ministral", others="[INST] [/INST]"),
        _of("mistral"),
        _of("mistral_small", others="[INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]"),
        _of("moonlight", "<|im_end|>", "<|im_system|> <|im_user|> <|im_assistant|> <|im_middle|>"),
        _of("openchat", "<|end_of_turn|>"),
        _of("phi", "<|end|>", "<|system|> <|user|> <|assistant|>"),
        _of("phi4", "<|im_end|>", "<|im_start|> <|im_sep|>"),
        _of("qwen", *CHATML),
        _of("qwen3", *CHATML),
        _of("vicuna"),
        _of("zephyr"),
    )
)  # fmt: skip

# other names of one of these, most of them LLaMA-Factory's. Its *_nothink are formats without any place for thoughts,
# as Qwen3-Instruct-2507 has it; a Qwen3 that can do both is qwen3 with enable_thinking: false
ALIASES = {
    alias: name
    for name, aliases in {
        "chatml": "chatml_de dbrx llava_next_video_yi llava_next_yi marco minicpm_o minicpm_v opencoder qwen2_audio "
        "smollm smollm2 yi",
        "gemma": "gemma2 gemma3 gemma3n paligemma_chat",
        "glm4": "codegeex4 glm",
        "glm4_moe": "glm4_5v",
        "granite3": "granite4",
        "intern2": "cpm3 cpm4 falcon_h1 intern_s1 intern_vl",
        "llama2": "llama2_zh",
        "llama3": "llava_next_llama3 mllama skywork_o1",
        "ministral": "ministral3 pixtral",
        "mistral": "llava_next_mistral llava_next_video_mistral",
        "qwen": "llava_next_qwen qwen2_omni qwen2_vl qwen3_nothink qwen3_omni_nothink qwen3_vl_nothink",
        "qwen3": "keye_vl mimo mimo_v2 mimo_vl qwen3_omni qwen3_vl",
        "vicuna": "llava llava_next llava_next_video video_llava",
    }.items()
    for alias in aliases.split()
}

# LLaMA-Factory's other names, each with what comes nearest to it here
NEAREST = {
    refused: name
    for name, names in {
        "alpaca": "deepseekcoder solar yi_vl",
        "chatml": "ernie kimi_vl moss_vl sailor",
        "deepseek": "ernie_nothink ernie_vl falcon",
        "default": "aquila atom baichuan baichuan2 bailing bailing_v2 belle bluelm chatglm2 codegeex2 cpm empty "
        "fewshot hunyuan index intern minimax1 minimax2 orion paligemma telechat telechat2 xuanyuan xverse yayi "
        "yuan ziya",
        "glm4": "chatglm3",
        "glm4_moe": "glm4v glmz1",
        "llama2": "breeze",
        "openchat": "openchat-3.6",
        "phi": "dots_ocr granite3_vision phi_small starchat",
        "qwen": "qwen3_5_nothink",
        "qwen3": "gpt_oss qwen3_5 seed_coder seed_oss",
        "zephyr": "olmo",
    }.items()
    for refused in names.split()
}


def names() -> list[str]:
    """What `template` can be, without other names of the same."""
    return sorted(TEMPLATES)


def find(name: str) -> Template:
    """The template of that name or alias.

    Raises:
        KeyError: there is none; `problem` says it in words.
    """
    return TEMPLATES[ALIASES.get(name, name)]


def problem(name: str) -> str | None:
    """What is wrong with a name, in a sentence that says what to take instead; None for one that is known."""
    if name in TEMPLATES or name in ALIASES:
        return None
    if name in NEAREST:
        return (
            f"the format {name} is not known here: leave template empty if the model has its own chat template, which "
            f"is then used; the nearest by name is {NEAREST[name]}"
        )
    close = get_close_matches(name, [*TEMPLATES, *ALIASES], n=1)
    hint = f"did you mean {close[0]}? There" if close else "there"
    return f"there is no template {name!r}; {hint} are: {', '.join(names())}; empty takes the model's own"


def text(name: str) -> str:
    """The template's Jinja text. Raises as `find` does."""
    return _text(find(name).name)


def with_thinking(source: str, enable_thinking: bool | None) -> str:
    """A template's text in which thinking is on or off unless a request says otherwise; None leaves it as it is."""
    if enable_thinking is None or "enable_thinking" not in source:
        return source
    return THINKING.format(value=str(enable_thinking).lower()) + source


def lacking(name: str, known: Collection[str]) -> list[str]:
    """Tokens of a template that a tokenizer which knows those would spell in pieces; none where nothing is known."""
    return [token for token in find(name).tokens if token not in known] if known else []


def spelled(name: str, lacking: Sequence[str]) -> str:
    """The sentence about tokens that a tokenizer lacks."""
    return (
        f"the tokenizer does not know {', '.join(lacking)}, so {name} spells them in pieces, which are learnt more "
        f"slowly: add them (add_special_tokens: {','.join(lacking)} with resize_vocab: true), or take a template of "
        "plain words: alpaca, default or vicuna"
    )


@lru_cache(maxsize=64)
def _text(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
