"""What requests may hold: vLLM's names, bounds and defaults. What is not known here is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studio.worker.stand_in.sampling import Sampling

# options of vLLM that would change the answer; others that nothing here knows change nothing
UNKNOWN_HERE = (
    "presence_penalty", "frequency_penalty", "logit_bias", "response_format", "structured_outputs", "guided_json",
    "bad_words", "min_tokens", "echo", "suffix", "prompt_logprobs", "continue_final_message", "truncate_prompt_tokens",
    "use_beam_search", "allowed_token_ids",
)  # fmt: skip
ALTERNATIVES_MAX = 20


class Body(BaseModel):
    """The JSON of a request. Nulls stand for what is not said."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return (
            {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values
        )


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    include_usage: bool = False


class Asked(Body):
    """What requests for answers have in common."""

    model: str | None = None
    n: int = Field(1, ge=1, le=128)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    seed: int | None = None
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    return_tokens_as_token_ids: bool = False

    @model_validator(mode="before")
    @classmethod
    def _stop_as_list(cls, values: Any) -> Any:
        alone = isinstance(values, dict) and isinstance(values.get("stop"), str)
        return {**values, "stop": [values["stop"]]} if alone else values

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if unknown := [name for name in UNKNOWN_HERE if (self.model_extra or {}).get(name)]:
            raise ValueError(f"the Transformers server does not know {', '.join(unknown)}: leave it out")
        if self.n > 1 and not self.temperature:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}")
        return self

    def sampling(self, number: int, logprobs: int | None) -> Sampling:
        """How answer `number` of n is drawn."""
        seed = None if self.seed is None else self.seed + number
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p, self.repetition_penalty, seed, logprobs)


class Chat(Asked):
    """POST /v1/chat/completions"""

    messages: tuple[dict[str, Any], ...] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=ALTERNATIVES_MAX)
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        return self.top_logprobs if self.logprobs else None


class Completion(Asked):
    """POST /v1/completions"""

    prompt: str | tuple[int, ...] | tuple[str, ...] | tuple[tuple[int, ...], ...]
    max_tokens: int = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=ALTERNATIVES_MAX)
    add_special_tokens: bool = True

    @property
    def limit(self) -> int:
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        return self.logprobs

    @property
    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        """One or several, as texts or tokens."""
        several = not isinstance(self.prompt, str) and self.prompt and not isinstance(self.prompt[0], int)
        return self.prompt if several else (self.prompt,)  # type: ignore[return-value]


class Tokenize(Body):
    """POST /tokenize: of a text, or of a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: tuple[dict[str, Any], ...] = ()
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    tools: tuple[dict[str, Any], ...] = ()


class Load(Body):
    """POST /v1/load_lora_adapter"""

    lora_name: str = Field(min_length=1)
    lora_path: str = Field(min_length=1)
    load_inplace: bool = False


class Unload(Body):
    """POST /v1/unload_lora_adapter"""

    lora_name: str = Field(min_length=1)
