"""The adapters of a running server: checked, loaded, proved not to leak into the base, unloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.config.serve import ServeConfig
from studio.errors import RequestFailed, SeedbedError, ServingError
from studio.files import read_json, write_json
from studio.models import AdapterInfo
from studio.serving import command, probe
from studio.serving.client import Client


@dataclass(frozen=True)
class Loaded:
    """An adapter that the server answers with."""

    name: str
    info: AdapterInfo
    check: probe.Check


class Adapters:
    """Adapters by name. `requests` is the folder in which the studio asks for more."""

    def __init__(self, client: Client, config: ServeConfig, requests: Path) -> None:
        self._client = client
        self._config = config
        self._requests = requests
        self._base = command.base_name(config)
        self._base_path = models.resolve(config.model_name_or_path)
        self._loaded: dict[str, Loaded] = {}
        self._reference: probe.Reference | None = None

    def models(self) -> list[dict[str, Any]]:
        """What the server answers as, base first, for server.json."""
        base = {"name": self._base, "base": True, "path": self._base_path, "rank": None}
        others = self._loaded.values()
        return [base, *({"name": a.name, "base": False, "path": str(a.info.path), "rank": a.info.rank} for a in others)]

    def checks(self) -> dict[str, dict[str, Any]]:
        """The proof of each adapter, for server.json."""
        return {name: loaded.check.to_json() for name, loaded in self._loaded.items()}

    async def begin(self) -> None:
        """Learn how the base answers alone, then load the adapters of the configuration."""
        self._reference = await probe.observe_base(self._client, self._base)
        for adapter in self._config.adapters:
            await self.load(adapter.name, models.resolve(adapter.path))

    def check(self, name: str, path: str) -> AdapterInfo:
        """Look at an adapter without loading it.

        Raises:
            ModelError: missing or damaged.
            ServingError: it does not fit this server.
        """
        info = models.check_adapter(Path(path))
        if name == self._base:
            raise ServingError(f"{name!r} is the base model's name here: give the adapter another one")
        if not _same_base(info, self._base_path):
            raise ServingError(
                f"{path} was trained on {info.base}, but this server holds {self._base_path}: "
                "start a server for that model"
            )
        if info.rank > self._config.max_lora_rank:
            raise ServingError(
                f"{path} has rank {info.rank}, but this server takes ranks up to {self._config.max_lora_rank}: "
                f"start it with max_lora_rank={smallest_rank(info.rank)}"
            )
        if name not in self._loaded and len(self._loaded) >= self._config.max_loras:
            raise ServingError(
                f"This server already holds {len(self._loaded)} adapters ({', '.join(self._loaded)}): unload one, "
                "or start it with a larger max_loras"
            )
        return info

    async def load(self, name: str, path: str) -> probe.Check:
        """Load an adapter, or load it anew, and prove that the base's answers stay the base's.

        Raises:
            ModelError, ServingError: it is not loaded; the server goes on.
        """
        assert self._reference
        info = self.check(name, path)
        payload = {"lora_name": name, "lora_path": str(info.path), "load_inplace": name in self._loaded}
        try:
            await self._client.post("/v1/load_lora_adapter", payload)
        except RequestFailed as error:
            raise ServingError(_refusal(name, str(error))) from None
        check = await probe.check(self._client, self._base, name, self._reference)
        if not check.ok:
            await self.unload(name)
            raise ServingError(
                f"{name} was unloaded again: with it, the base model's own answers change (log-probabilities by "
                f"{check.base_max_logprob_diff}). This vLLM mixes adapters up; please report it"
            )
        self._loaded[name] = Loaded(name, info, check)
        return check

    async def unload(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            RequestFailed: the server has none of that name.
        """
        self._loaded.pop(name, None)
        await self._client.post("/v1/unload_lora_adapter", {"lora_name": name})

    async def answer_requests(self, publish: Callable[[], None]) -> bool:
        """Do what the files in the requests folder ask, oldest first, and `publish` what follows before it is called
        done. Whether there was anything to do."""
        pending = sorted(_pending(self._requests), key=lambda path: path.stat().st_mtime)
        for path in pending:
            answer = await self._answer(path)
            publish()
            write_json(path.with_suffix(".done.json"), answer)
            path.unlink()
        return bool(pending)

    async def _answer(self, path: Path) -> dict[str, Any]:
        try:
            request: Any = read_json(path)
            if path.name.startswith("unload-"):
                await self.unload(request["name"])
                return {"ok": True, "message": f"{request['name']} is unloaded"}
            check = await self.load(request["name"], models.resolve(request["path"]))
        except SeedbedError as error:
            return {"ok": False, "message": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "message": f"{path.name} is not a request: {error!r}"}
        return {"ok": True, "message": check.warning or f"{request['name']} is ready"}


def smallest_rank(rank: int) -> int:
    """The smallest of vLLM's ranks that holds an adapter of this rank.

    Raises:
        ServingError: none does.
    """
    choices: Iterator[int] = iter(ServeConfig.model_fields["max_lora_rank"].annotation.__args__)  # type: ignore[union-attr]
    if found := next((choice for choice in choices if choice >= rank), None):
        return found
    raise ServingError(f"vLLM cannot serve an adapter of rank {rank}: merge it into its base and serve that")


def _same_base(info: AdapterInfo, served: str) -> bool:
    """By path, or by the hash of the base's config.json, for a base that was moved."""
    if info.base == served:
        return True
    recorded = (read_json(info.path / "base.json") or {}).get("sha256")
    config = Path(served) / "config.json"
    return bool(recorded) and config.exists() and hashlib.sha256(config.read_bytes()).hexdigest() == recorded


def _refusal(name: str, message: str) -> str:
    """vLLM's reason, without the layers that it is wrapped in."""
    reason = message.partition("Worker failed with error '")[2].partition("', please check")[0] or message
    return f"vLLM cannot load {name}: {reason.strip()}. Merge it into its base and serve the merged model instead"


def _pending(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*load-*.json") if path.suffixes == [".json"])
