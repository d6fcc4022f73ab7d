"""An answer's text while its tokens come: whole characters only, and nothing that may yet turn out to end it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

PROMPT_TOKENS = 6  # the first token's text can depend on those before it: a space, or half a character
HALF = "\ufffd"


class Text:
    """Text of the tokens so far. `stops` end it; they are left out unless `keep_stop`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Sequence[int],
        stops: Sequence[str] = (),
        keep_stop: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt[-PROMPT_TOKENS:])
        self._shown, self._read = 0, len(self._tokens)  # tokens whose text is known begin here, and end here
        self._stops = stops
        self._keep_stop = keep_stop
        self._held = 0 if keep_stop else max(map(len, stops), default=1) - 1
        self._given = 0
        self.text = ""

    def add(self, token: int) -> str | None:
        """Take in a token. The stop string that it completes, at which the text is cut."""
        before = len(self.text)
        self._tokens.append(token)
        self.text += self._new()
        found = [(end, stop) for stop in self._stops if (end := self._end_of(stop, before)) > 0]
        if not found:
            return None
        end, stop = min(found, key=lambda pair: pair[0])
        self.text = self.text[: end if self._keep_stop else end - len(stop)]
        return stop

    def release(self, is_last: bool) -> str:
        """What can be shown and has not been."""
        end = len(self.text) if is_last else max(self._given, len(self.text) - self._held)
        text, self._given = self.text[self._given : end], end
        return text

    def _new(self) -> str:
        known = self._decode(self._tokens[self._shown : self._read])
        text = self._decode(self._tokens[self._shown :])
        if len(text) <= len(known) or text.endswith(HALF):
            return ""
        self._shown, self._read = self._read, len(self._tokens)
        return text[len(known) :]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _end_of(self, stop: str, before: int) -> int:
        """Where `stop` ends, if that is behind `before`; 0 if it is not there."""
        start = self.text.find(stop, max(0, before - len(stop) + 1))
        return start + len(stop) if start >= 0 else 0
