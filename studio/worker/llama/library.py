"""llama.cpp by its C interface: quantising rows, tokenising, computing. Imports neither torch nor Transformers.

The structures that hold parameters change with every version, so none is described here: one that is large enough
is filled by llama.cpp's own defaults and handed back. Only `n_ctx`, which has been the first field since there is
one, is set.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import ModelError

# the package that brings it, and where in it the library lies; the first that is installed is taken
PLACES = {"xllamacpp": "xllamacpp.abi3.so", "llama_cpp": "lib/libllama.so"}


class Settings(ctypes.Structure):
    """Any of llama.cpp's parameter structures, none of which is as long."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (LOG, c_void_p)),
    "llama_model_default_params": (Settings, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, Settings)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_chat_template": (c_char_p, (c_void_p, c_char_p)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
    "llama_detokenize": (c_int32, (c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool)),
    "llama_context_default_params": (Settings, ()),
    "llama_init_from_model": (c_void_p, (c_void_p, Settings)),
    "llama_set_n_threads": (None, (c_void_p, c_int32, c_int32)),
    "llama_free": (None, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_batch_get_one": (Settings, (POINTER(c_int32), c_int32)),
    "llama_decode": (c_int32, (c_void_p, Settings)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "ggml_quantize_chunk": (c_size_t, (c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_row_size": (c_size_t, (c_int, c_int64)),
    "ggml_validate_row_data": (c_bool, (c_int, c_void_p, c_size_t)),
}


class LlamaError(ModelError):
    """llama.cpp refused something; the message is its own last one."""


class Library:
    """The loaded library. Its functions are attributes, called as in llama.h."""

    def __init__(self, path: Path) -> None:
        loaded = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.said: list[str] = []
        self._listen = LOG(self._hear)  # kept: ctypes does not
        self.llama_log_set(self._listen, None)
        self.llama_backend_init()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def complaint(self) -> str:
        """The last thing that it said in its log, and forgets it."""
        text = next((line for line in reversed(self.said) if "error" in line), "")
        self.said.clear()
        return text or "llama.cpp does not say why"

    def _hear(self, _level: int, text: bytes | None, _data: object) -> None:
        if line := (text or b"").decode(errors="replace").strip():
            self.said = [*self.said[-20:], line]


@cache
def load() -> Library:
    """The library of the installed package.

    Raises:
        LlamaError: none is installed.
    """
    for package, name in PLACES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (path := Path(folder) / name).exists():
                return Library(path)
    raise LlamaError("llama.cpp is not installed: run `make environment`, which installs xllamacpp")


class Model:
    """A GGUF file, loaded. A context manager."""

    def __init__(self, path: Path, context: int = 0, threads: int = 1) -> None:
        """With a `context` of so many tokens it can also compute.

        Raises:
            LlamaError: llama.cpp does not load it.
        """
        self._library = lib = load()
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise LlamaError(f"llama.cpp does not load {path.name}: {lib.complaint()}")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._context = self._new_context(context, threads) if context else None
        self.vocab_size = int(lib.llama_vocab_n_tokens(self._vocab))

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context:
            self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    def _new_context(self, size: int, threads: int) -> int:
        settings = self._library.llama_context_default_params()
        settings.words[0] = size
        context = self._library.llama_init_from_model(self._model, settings)
        if not context:
            raise LlamaError(f"llama.cpp cannot compute with it: {self._library.complaint()}")
        self._library.llama_set_n_threads(context, threads, threads)
        return int(context)

    @property
    def chat_template(self) -> str | None:
        """The template that the file carries."""
        text = self._library.llama_model_chat_template(self._model, None)
        return None if text is None else text.decode(errors="replace")

    def tokens(self, text: str, as_prompt: bool = False) -> list[int]:
        """Token ids of a text, special tokens in it read as such; `as_prompt` with those that the file has added."""
        raw = text.encode()
        ids = (c_int32 * (len(raw) + 8))()
        count = self._library.llama_tokenize(self._vocab, raw, len(raw), ids, len(ids), as_prompt, True)
        return list(ids[: max(count, 0)])

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        ids = (c_int32 * len(tokens))(*tokens)
        room = ctypes.create_string_buffer(64 + 64 * len(tokens))
        size = self._library.llama_detokenize(self._vocab, ids, len(tokens), room, len(room), True, False)
        return room.raw[: max(size, 0)].decode(errors="replace")

    def ends(self, token: int) -> bool:
        """Whether generation stops at a token."""
        return bool(self._library.llama_vocab_is_eog(self._vocab, token))

    def restart(self) -> None:
        """Forget all that was computed."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """What may follow once `tokens` were said too: [vocabulary]."""
        ids = (c_int32 * len(tokens))(*tokens)
        if self._library.llama_decode(self._context, self._library.llama_batch_get_one(ids, len(tokens))):
            raise LlamaError(f"llama.cpp stopped computing: {self._library.complaint()}")
        found = self._library.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(found, (self.vocab_size,)).copy()
