"""A parcel brought to the Hugging Face hub: file by file, counted byte by byte, all of it visible by one commit.

The token comes from the environment and goes into requests alone: no message here holds one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studio.errors import HubError
from studio.exports.push import Item, token

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

# over plain HTTP every byte is counted where it is read, and the hub says by SHA-256 which files it has
os.environ["HF_HUB_DISABLE_XET"] = "1"

CONNECT_S, ANSWER_S, SILENCE_S = 10, 300, 60
Tell = Callable[[str, Item, int], None]  # "checking" or "uploading", which file, bytes of it so far


@dataclass(frozen=True)
class Repository:
    """A repository of the token's owner; `created` by this upload. `url` is its page."""

    name: str
    private: bool
    created: bool
    url: str


@dataclass(frozen=True)
class Sent:
    """What became of one file: `bytes` went over the line, 0 where the hub had it. `sha256` is empty for small ones."""

    item: Item
    bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Hub:
    """The hub as the environment names it, spoken to with the environment's token."""

    endpoint: str = field(default_factory=lambda: os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"))

    def open(self, name: str, private: bool) -> Repository:
        """The repository to upload to, made where there is none.

        Raises:
            HubError: no right to write there; it is public and should not be; the hub cannot be reached.
        """
        with self._explained(name):
            self._require_owner(name)
            found = self._find(name)
            if found is None:
                self._api.create_repo(name, private=private, exist_ok=True)
            is_private = bool(self._api.model_info(name).private)
        if private and not is_private:
            raise HubError(_public(name, found is None))
        return Repository(name, is_private, found is None, f"{self.endpoint}/{name}")

    def upload(self, name: str, items: Sequence[Item], message: str, tell: Tell) -> tuple[list[Sent], str]:
        """Bring `items` into the repository `name` in one commit; what became of each, and the commit's address.

        Raises:
            HubError: refused, or broken off. What has arrived needs not be sent again.
        """
        with self._explained(name):
            prepared = [self._upload_one(name, item, tell) for item in items]
            commit = self._api.create_commit(name, [operation for operation, _ in prepared], commit_message=message)
        return [sent for _, sent in prepared], str(commit.commit_url)

    def differing(self, name: str, sent: Sequence[Sent]) -> list[str]:
        """Files that the repository does not hold as they are here, by what it tells of sizes and SHA-256."""
        with self._explained(name):
            info = self._api.model_info(name, files_metadata=True)
        there = {file.rfilename: file for file in info.siblings or ()}
        return [one.item.name for one in sent if not _same(one, there.get(one.item.name))]

    @property
    def _api(self) -> HfApi:
        from httpx2 import Timeout
        from huggingface_hub import HfApi, get_session

        # by itself the client waits for ever for a line that has gone silent
        get_session().timeout = Timeout(ANSWER_S, connect=CONNECT_S, write=SILENCE_S)
        return HfApi(endpoint=self.endpoint, token=token() or False)

    def _require_owner(self, name: str) -> None:
        if not token():
            raise HubError("HF_TOKEN is not set: start the studio with a token that may write")
        known, owner = self._api.whoami(), name.partition("/")[0]
        role = known.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read":
            raise HubError("HF_TOKEN may only read: make one that may write (huggingface.co/settings/tokens)")
        owners = [str(known["name"]), *(str(each["name"]) for each in known.get("orgs", ()))]
        # of a fine-grained token the hub does not tell every organisation that it may write to
        if role != "fineGrained" and owner.lower() not in map(str.lower, owners):
            raise HubError(f"HF_TOKEN belongs to {owners[0]}, who cannot write to {owner}: use {' or '.join(owners)}")

    def _find(self, name: str) -> Any | None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self._api.model_info(name)
        except RepositoryNotFoundError:
            return None

    def _upload_one(self, name: str, item: Item, tell: Tell) -> tuple[CommitOperationAdd, Sent]:
        """One after the other: where a line breaks off, one file is lost, not a piece of each."""
        from huggingface_hub import CommitOperationAdd

        file = None if item.content is not None else _Watched(item, tell)
        operation = CommitOperationAdd(item.name, file or item.content or b"")
        if file:
            file.verb, file.reached = "uploading", 0
        self._api.preupload_lfs_files(name, [operation], num_threads=1)
        is_large = operation._upload_mode == "lfs"
        known = operation._remote_oid is not None and operation._remote_oid == operation._local_oid
        count = file.reached if file and is_large else 0 if known else item.size_bytes
        tell("uploading", item, item.size_bytes)
        return operation, Sent(item, count, operation.upload_info.sha256.hex() if is_large else "")

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """What the hub's client raises, as one sentence for the user."""
        from huggingface_hub import errors

        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise HubError("HF_HUB_OFFLINE is set, so nothing is sent to the hub: unset it and try again") from error
        except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:  # type: ignore[attr-defined]
            raise HubError(_reason(_origin(error), name, self.endpoint)) from error


class _Watched(io.BufferedReader):
    """A file that tells how far it has been read; `reached` is the farthest since it was last set."""

    def __init__(self, item: Item, tell: Tell) -> None:
        super().__init__(io.FileIO(item.path))
        self.item, self.said, self.verb, self.reached = item, tell, "checking", 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reached = max(self.reached, self.tell())
        self.said(self.verb, self.item, self.tell())
        return data


def _same(sent: Sent, there: Any) -> bool:
    if there is None or there.size != sent.item.size_bytes:
        return False
    return not (sent.sha256 and there.lfs) or bool(there.lfs.sha256 == sent.sha256)


def _public(name: str, created: bool) -> str:
    if created:
        return f"the hub made {name} public although private was asked for: nothing was uploaded; look at its settings"
    return (
        f"{name} is there already and public, so everybody would see the upload. Choose another name, make it private "
        "on the hub, or upload with hub_private_repo=false"
    )


def _origin(error: BaseException) -> BaseException:
    """The client wraps what happened to a file in an error that only names the file."""
    while isinstance(error, RuntimeError) and error.__cause__:
        error = error.__cause__
    return error


def _reason(error: BaseException, name: str, endpoint: str) -> str:
    from httpx2 import TransportError

    status = getattr(getattr(error, "response", None), "status_code", None)
    said = getattr(error, "server_message", None)
    if status is not None:
        why = next((text for codes, text in REASONS if status in codes), "the hub refused")
        return f"{why.format(name=name)} (the hub answered {status}{f': {said}' if said else ''})"
    if isinstance(error, TransportError):
        return (
            f"the hub ({endpoint}) cannot be reached, or the connection broke off ({type(error).__name__}). Is this "
            "computer online? Push again: what has arrived is not sent again"
        )
    return f"the upload to {name} failed: {error}"


AGAIN = "Push again later: what has arrived is not sent again"
REASONS: tuple[tuple[Sequence[int], str], ...] = (
    ((401,), "HF_TOKEN is not valid (any more): make a new one (huggingface.co/settings/tokens) and start again"),
    ((402,), "the hub wants to be paid for this: free some of your private storage there, or extend it"),
    ((403,), "HF_TOKEN may not write to {name}, or your storage there is full"),
    ((404,), "there is no repository {name} that HF_TOKEN can see"),
    ((409, 412), f"somebody else wrote to {{name}} at the same moment. {AGAIN}"),
    ((413,), "a file is larger than the hub takes: merge with a smaller export_size"),
    ((429,), f"the hub asks to slow down. {AGAIN}"),
    (range(500, 600), f"the hub has trouble of its own. {AGAIN}"),
)
