"""What requests are answered with, and what they come to: answers to compute, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from studio.errors import RequestFailed
from studio.worker.stand_in.generation import Ending, Generation, Task
from studio.worker.stand_in.metrics import Metrics
from studio.worker.stand_in.requests import Chat, Completion
from studio.worker.stand_in.served import Served


@dataclass(frozen=True)
class Desk:
    """One server's model and what it needs. `ends`: the tokens at which the model ends its answers."""

    served: Served
    tokenizer: PreTrainedTokenizerBase
    generation: Generation
    metrics: Metrics
    ends: frozenset[int]

    def tasks(self, asked: Chat | Completion, prompts: Sequence[tuple[int, ...]]) -> list[Task]:
        """The answers that a request asks for: n for each prompt.

        Raises:
            RequestFailed: a prompt is too long.
            NotServed: there is no such model.
        """
        model = self.served.model(asked.model)
        self._require_known([token for prompt in prompts for token in prompt])
        return [
            Task(model, prompt, asked.sampling(number, asked.alternatives), self._ending(asked, len(prompt)))
            for prompt in prompts
            for number in range(asked.n)
        ]

    def text_of(self, token: int) -> str:
        """A token's text."""
        return str(self.tokenizer.decode([token]))

    def _require_known(self, tokens: Sequence[int]) -> None:
        """Refuse tokens beyond the embeddings: on a GPU they would end the process."""
        count = self.served.base.get_input_embeddings().weight.shape[0]
        if unknown := [token for token in tokens if not 0 <= token < count]:
            raise RequestFailed(f"Token id {unknown[0]} is out of vocabulary: this model knows 0 to {count - 1}.")

    def _ending(self, asked: Chat | Completion, prompt_tokens: int) -> Ending:
        most, limit = self.served.length_max, asked.limit
        if limit and limit > most:
            raise RequestFailed(f"max_tokens={limit} cannot be greater than max_model_len={most}.")
        if not prompt_tokens:
            raise RequestFailed("The prompt is empty.")
        if prompt_tokens >= most:
            raise RequestFailed(
                f"This model's maximum context length is {most} tokens. However, your prompt contains {prompt_tokens} "
                "input tokens. Please reduce the length of the input prompt."
            )
        room = min(limit or most, most - prompt_tokens)
        ends = frozenset() if asked.ignore_eos else self.ends
        return Ending(room, ends, frozenset(asked.stop_token_ids), asked.stop, asked.include_stop_str_in_output)
