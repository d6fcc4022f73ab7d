"""The two hubs: what files a data set has there, and what its card says about them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import yaml

from studio.datasets.entry import HUB_NAMES
from studio.datasets.hub.stream import RemoteFile
from studio.errors import DatasetError

# a name, or owner/name: nothing that could lead a path or an address elsewhere
_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
PROBE_S = 10


@dataclass(frozen=True)
class Repository:
    """The files of a data set on a hub, and the `configs` of its card: [{config_name, data_files}, …]."""

    files: tuple[RemoteFile, ...]
    configs: tuple[Mapping[str, Any], ...] = ()


def repository(kind: str, hub_id: str, revision: str | None = None) -> Repository:
    """What the hub `kind` (hf or ms) has under `hub_id`.

    Raises:
        DatasetError: no such hub, no such set, no access, or the hub cannot be reached.
    """
    if kind not in PLACES:
        raise DatasetError(f"there is no hub {kind!r}; there are hf (Hugging Face) and ms (ModelScope)")
    if not _ID.fullmatch(hub_id):
        raise DatasetError(f"{hub_id!r} is no name of a dataset: write owner/name, as in its address")
    return PLACES[kind](hub_id, revision)


def _hugging_face(hub_id: str, revision: str | None) -> Repository:
    from huggingface_hub import HfApi, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    # only the environment's token: one that a login left in the home folder belongs to a person, not to the studio
    token = os.environ.get("HF_TOKEN") or False
    with _explained("hf", hub_id, endpoint, "HF_TOKEN", "HF_ENDPOINT"):
        api = HfApi(endpoint=endpoint, token=token)
        info = api.dataset_info(hub_id, revision=revision, files_metadata=True, timeout=PROBE_S)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    files = (
        RemoteFile(
            file.rfilename,
            file.size or 0,
            hf_hub_url(hub_id, file.rfilename, repo_type="dataset", revision=info.sha, endpoint=endpoint),
            file.lfs.sha256 if file.lfs else "",
            headers,
        )
        for file in info.siblings or ()
    )
    configs = info.card_data.get("configs") if info.card_data else None
    return Repository(tuple(files), tuple(configs or ()))


def _modelscope(hub_id: str, revision: str | None) -> Repository:
    from modelscope_hub import HubApi, HubConfig

    endpoint = os.environ.get("MODELSCOPE_ENDPOINT", "https://modelscope.cn").rstrip("/")
    token = os.environ.get("MODELSCOPE_API_TOKEN", "")
    revision = revision or "master"
    with _explained("ms", hub_id, endpoint, "MODELSCOPE_API_TOKEN", "MODELSCOPE_ENDPOINT"):
        # its client would try for a long time what cannot be reached at all
        httpx.head(endpoint, timeout=PROBE_S)
        api = HubApi(config=HubConfig(endpoint=endpoint, token=token))
        found = [file for file in api.list_repo_files(hub_id, "dataset", revision=revision) if file.type == "blob"]
    headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
    files = tuple(
        RemoteFile(
            file.path,
            file.size or 0,
            api.legacy.get_download_url(hub_id, "dataset", file.path, revision),
            file.sha256 or "",
            headers,
        )
        for file in found
    )
    return Repository(files, _card_configs(files))


def _card_configs(files: tuple[RemoteFile, ...]) -> tuple[Mapping[str, Any], ...]:
    """What the head of README.md says; nothing where there is none that can be read."""
    card = next((file for file in files if file.path == "README.md"), None)
    if card is None:
        return ()
    try:
        text = httpx.get(card.url, headers=dict(card.headers), timeout=PROBE_S, follow_redirects=True).text
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
        return tuple(head.get("configs") or ())
    except (httpx.HTTPError, yaml.YAMLError, AttributeError, TypeError):
        return ()


@contextmanager
def _explained(kind: str, hub_id: str, endpoint: str, token: str, mirror: str) -> Iterator[None]:
    """What the libraries of the hubs raise, as one sentence for the user."""
    from huggingface_hub import errors as hf
    from modelscope_hub import errors as ms

    place = HUB_NAMES[kind]
    try:
        yield
    except (hf.GatedRepoError, ms.AuthenticationError, ms.PermissionDeniedError) as error:
        what = (
            f"{hub_id} on {place} is not open to everyone: ask there for access, then start the studio with {token} set"
        )
        raise DatasetError(what) from error
    except (hf.RepositoryNotFoundError, ms.NotExistError) as error:
        what = f"there is no dataset {hub_id!r} on {place}, or it is private (then start the studio with {token} set)"
        raise DatasetError(what) from error
    except (hf.HfHubHTTPError, ms.APIError) as error:
        raise DatasetError(f"{place} refused: {str(error).splitlines()[0]}") from error
    except hf.OfflineModeIsEnabled as error:
        raise DatasetError(f"HF_HUB_OFFLINE is set, so nothing is asked of {place}: unset it and try again") from error
    except (hf.HTTPError, httpx.TransportError, ConnectionError, ms.NetworkError) as error:  # type: ignore[attr-defined]
        what = (
            f"{place} ({endpoint}) cannot be reached from this computer. Is it offline? A mirror can be named with "
            f"{mirror}; or download the files elsewhere and import them from a local path"
        )
        raise DatasetError(what) from error


PLACES: dict[str, Callable[[str, str | None], Repository]] = {"hf": _hugging_face, "ms": _modelscope}
