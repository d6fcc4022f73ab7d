"""The adapters of a running server: checked, loaded, proved to answer and not to leak into the base, unloaded."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio import models
from studio.config.serve import ServeConfig
from studio.errors import AdapterRefused, ModelError, RequestFailed, SeedbedError, ServingError
from studio.files import read_json
from studio.models import AdapterInfo
from studio.serving import command, kinds, mailbox, probe, proof, weights
from studio.serving.backend import Name
from studio.serving.client import Client

NEEDS_NO_REFERENCE = "skipped: Transformers itself answers"


class ServerSpoilt(ServingError):
    """The base itself answers otherwise than it did: no server to go on with."""


@dataclass(frozen=True)
class Loaded:
    """An adapter that the server answers with."""

    name: str
    info: AdapterInfo
    check: probe.Check


class Adapters:
    """Adapters by name. `requests` is the folder in which the studio asks for more; `backend` is who serves them."""

    def __init__(self, client: Client, config: ServeConfig, requests: Path, backend: Name = "vllm") -> None:
        self._client = client
        self._config = config
        self._requests = requests
        self._backend = backend
        self._base = command.base_name(config)
        self._base_path = models.resolve(config.model_name_or_path)
        self._loaded: dict[str, Loaded] = {}
        self._thrown_out: dict[str, probe.Check] = {}
        self._comparisons: dict[str, asyncio.Task[None]] = {}
        self._has_news = False
        self._spoilt: ServerSpoilt | None = None
        self._alone: probe.Reference | None = None
        self._references: proof.References | None = None

    def models(self) -> list[dict[str, Any]]:
        """What the server answers as, base first, for server.json."""
        base = {"name": self._base, "base": True, "path": self._base_path, "rank": None}
        others = self._loaded.values()
        return [base, *({"name": a.name, "base": False, "path": str(a.info.path), "rank": a.info.rank} for a in others)]

    def checks(self) -> dict[str, dict[str, Any]]:
        """The proof of each adapter, for server.json; also of those that were unloaded because it failed."""
        checks = self._thrown_out | {name: loaded.check for name, loaded in self._loaded.items()}
        return {name: check.to_json() for name, check in checks.items()}

    async def begin(self) -> None:
        """Learn how the base answers alone, then load the adapters of the configuration."""
        self._alone = await probe.observe_base(self._client, self._base)
        kept = self._requests.parent.parent / ".references"
        self._references = proof.References(self._config, kept, self._alone.prompts)
        for adapter in self._config.adapters:
            await self.load(adapter.name, models.resolve(adapter.path))

    def check(self, name: str, path: str) -> AdapterInfo:
        """Look at an adapter without loading it.

        Raises:
            ModelError: missing, damaged, or its weights are not finite.
            ServingError: it does not fit this server.
            AdapterRefused: vLLM cannot serve its kind.
        """
        info = models.adapter_info(Path(path))
        self._require_name(name, info)
        self._require_base(info)
        if self._backend == "vllm":
            self._require_kind(info)
            self._require_room(name, info)
        _require_finite(info)
        return info

    async def load(self, name: str, path: str) -> probe.Check:
        """Load an adapter, or load it anew, and prove that it answers and that the base's answers stay the base's.

        Where Transformers has yet to be asked, that goes on afterwards; an adapter that fails then is unloaded.

        Raises:
            ServerSpoilt: it is unloaded again, and has left a server that must not go on.
            ModelError, ServingError: it is not loaded; the server goes on.
        """
        assert self._alone
        info = await asyncio.to_thread(self.check, name, path)  # which reads all of its weights
        payload = {"lora_name": name, "lora_path": str(info.path), "load_inplace": name in self._loaded}
        try:
            await self._client.post("/v1/load_lora_adapter", payload)
        except RequestFailed as error:
            raise self._refused(name, str(error)) from None
        self._stop_comparing(name)
        try:
            check = await probe.check(self._client, self._base, name, self._alone)
            _require_unmixed(name, check)
            check = await self._compared(name, info, check)
        except BaseException as error:
            with suppress(ServingError):  # of a server that is gone nothing more is to be learnt
                await self.unload(name)
            if isinstance(error, RequestFailed):
                await self._require_unspoilt(info.path)
            raise
        self._loaded[name] = Loaded(name, info, check)
        self._thrown_out.pop(name, None)
        return check

    async def unload(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            RequestFailed: the server has none of that name.
        """
        self._stop_comparing(name)
        self._loaded.pop(name, None)
        await self._client.post("/v1/unload_lora_adapter", {"lora_name": name})

    async def _require_unspoilt(self, adapter: Path) -> None:
        """vLLM on a CPU answers everybody with NaN once an adapter's sums have overflowed."""
        assert self._alone
        try:
            rows = await probe.answers(self._client, self._base, self._alone.prompts)
            is_spoilt = probe.difference(self._alone.rows, rows) > self._alone.tolerance
        except RequestFailed:  # NaN is no JSON
            is_spoilt = True
        if is_spoilt:
            raise ServerSpoilt(
                f"With {adapter} the model computes no numbers any more, and after it the base does not, either: its "
                "weights are far too large, so its training has diverged. Start the server again without it"
            )

    async def _compared(self, name: str, info: AdapterInfo, check: probe.Check) -> probe.Check:
        """The check with what Transformers says, if that is known or needed now; else it is asked meanwhile.

        Raises:
            ServingError: the server ignores the adapter, or answers with other weights than its own.
        """
        assert self._alone
        assert self._references
        if self._backend == "huggingface":
            return replace(check, reference=NEEDS_NO_REFERENCE)
        if untrained := bool(check.warning) and models.is_untrained(info.path):
            check = replace(check, warning="the adapter is untrained: its weights change nothing yet")
        does_nothing = not untrained and check.adapter_max_logprob_diff_from_base == 0
        try:
            pair = await self._references.stored(info.path)
            if pair is None and not does_nothing:
                self._comparisons[name] = asyncio.create_task(self._compare(name, info, check))
                return check
            pair = pair or await self._references.compute(info.path)
        except proof.Unavailable as error:
            if does_nothing:
                raise ServingError(proof.ignored(name)) from None
            return replace(check, reference=f"skipped: {error}")
        return self._references.judged(name, check, self._alone, pair)

    async def _compare(self, name: str, info: AdapterInfo, check: probe.Check) -> None:
        """Ask Transformers, and throw the adapter out if it was not the adapter that answered."""
        assert self._alone
        assert self._references
        try:
            pair = await self._references.compute(info.path)
            check = self._references.judged(name, check, self._alone, pair)
        except (proof.Unavailable, ModelError, OSError, *models.MALFORMED) as error:
            check = replace(check, reference=f"skipped: {error}")
        except ServingError as error:
            self._comparisons.pop(name)
            self._thrown_out[name] = replace(check, ok=False, reference=f"failed: {error}")
            with suppress(ServingError):
                await self.unload(name)
        if name in self._loaded:
            self._loaded[name] = replace(self._loaded[name], check=check)
        self._has_news = True

    def _refused(self, name: str, message: str) -> ServingError:
        """The server's reason, without the layers that vLLM wraps it in. What vLLM refuses, Transformers may take."""
        reason = message.partition("Worker failed with error '")[2].partition("', please check")[0] or message
        if self._backend == "vllm":
            return AdapterRefused(f"vLLM cannot load {name}: {reason.strip()}")
        return ServingError(f"Transformers cannot load {name}: {reason.strip()}")

    def _stop_comparing(self, name: str) -> None:
        if task := self._comparisons.pop(name, None):
            task.cancel()

    def _require_name(self, name: str, info: AdapterInfo) -> None:
        if name == self._base:
            raise ServingError(f"{name!r} is the base model's name here: give the adapter another one")
        if name in self._loaded and self._loaded[name].info.path != info.path:
            there = self._loaded[name].info.path
            raise ServingError(f"{name!r} is {there} here: unload that, or give this adapter another name")

    def _require_base(self, info: AdapterInfo) -> None:
        if not _same_base(info, self._base_path):
            raise ServingError(
                f"{info.path} was trained on {info.base}, but this server holds {self._base_path}: "
                "start a server for that model"
            )
        folder = models.folder_of(self._base_path)
        if folder and (why := models.misfit(info.path, folder)):
            raise ServingError(
                f"{info.path} was not trained on {self._base_path}: {why}. Serve the model that it was trained on"
            )

    def _require_kind(self, info: AdapterInfo) -> None:
        found = kinds.kind(info)
        if found.way is not kinds.Way.ADAPTER:
            raise AdapterRefused(f"{info.path} cannot be served as an adapter: {found.why}")

    def _require_room(self, name: str, info: AdapterInfo) -> None:
        if info.rank > self._config.max_lora_rank:
            raise ServingError(
                f"{info.path} has rank {info.rank}, but this server takes ranks up to {self._config.max_lora_rank}: "
                f"start it with max_lora_rank={kinds.smallest_rank(info.rank)}"
            )
        if name not in self._loaded and len(self._loaded) >= self._config.max_loras:
            raise ServingError(
                f"This server already holds {len(self._loaded)} adapters ({', '.join(self._loaded)}): unload one, "
                "or start it with a larger max_loras"
            )

    async def answer_requests(self, publish: Callable[[], None]) -> bool:
        """Do what the files in the requests folder ask, oldest first, and `publish` what follows before it is called
        done. Whether there was anything to do.

        Raises:
            ServerSpoilt: once its asker is told.
        """
        if self._has_news:
            self._has_news = False
            publish()
        pending = mailbox.pending(self._requests, "load", "unload")
        for path in pending:
            answer = await self._answer(path)
            publish()
            mailbox.answer(path, answer)
            if self._spoilt:
                raise self._spoilt
        return bool(pending)

    async def _answer(self, path: Path) -> dict[str, Any]:
        try:
            request: Any = read_json(path)
            if path.name.startswith("unload-"):
                await self.unload(request["name"])
                return {"ok": True, "message": f"{request['name']} is unloaded"}
            check = await self.load(request["name"], models.resolve(request["path"]))
        except SeedbedError as error:
            self._spoilt = error if isinstance(error, ServerSpoilt) else None
            return {"ok": False, "message": str(error), "refused": isinstance(error, AdapterRefused)}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "message": f"{path.name} is not a request: {error!r}"}
        return {"ok": True, "message": check.warning or f"{request['name']} is ready"}


def _same_base(info: AdapterInfo, served: str) -> bool:
    """By path, or by the hash of the base's config.json, for a base that was moved."""
    if info.base == served:
        return True
    recorded = (read_json(info.path / "base.json") or {}).get("sha256")
    config = Path(served) / "config.json"
    return bool(recorded) and config.exists() and hashlib.sha256(config.read_bytes()).hexdigest() == recorded


def _require_finite(info: AdapterInfo) -> None:
    if name := weights.not_finite(info.path):
        raise ModelError(
            f"{info.path} holds NaN or infinity in {name}: its training has diverged. Take an earlier checkpoint, or "
            "train again with a lower learning_rate"
        )


def _require_unmixed(name: str, check: probe.Check) -> None:
    if not check.ok:
        raise ServingError(
            f"{name} was unloaded again: with it, the base model's own answers change (log-probabilities by "
            f"{check.base_max_logprob_diff}). This vLLM mixes adapters up; please report it"
        )
