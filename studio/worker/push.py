"""The worker of an upload: python -m studio.worker.push RUN_DIR

It never says that there is something to save: a stop ends it at once, wherever it is, and what has arrived stays there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studio.config.load import load_run_config
from studio.config.push import PushConfig
from studio.errors import HubError
from studio.exports import card, report
from studio.exports.plan import size
from studio.exports.push import Item, Parcel, parcel
from studio.exports.report import Report, Section, Table
from studio.files import write_text
from studio.runs.store import Store
from studio.worker.door import Desk, leave, serve
from studio.worker.hub import Hub, Repository, Sent

TELL_S = 0.1  # pieces are of 64 kB


def main(run_dir: Path) -> int:
    """Upload as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, PushConfig)
    desk.reporter.phase("preparing", "looking at the files")
    found = _packed(desk, config)
    desk.reporter.phase("connecting", f"asking the hub for {config.hub_model_id}")
    hub, started = Hub(), time.monotonic()
    repository = hub.open(config.hub_model_id, config.hub_private_repo)
    desk.reporter.phase("uploading", size(found.size_bytes))
    message = f"Upload {found.run.name if found.run else found.folder.name}"
    sent, commit = hub.upload(repository.name, found.items, message, _Progress(desk, found))
    desk.reporter.phase("verifying", "comparing what is there with what is here")
    if differing := hub.differing(repository.name, sent):
        raise HubError(f"{', '.join(differing)} did not arrive in {repository.url} as sent: push again")
    seconds = time.monotonic() - started
    report.write(_report(repository, sent, commit, seconds), desk.run_dir)
    uploaded = sum(one.bytes for one in sent)
    desk.reporter.result(url=repository.url, private=repository.private, uploaded_bytes=uploaded, seconds=seconds)
    return False


def _packed(desk: Desk, config: PushConfig) -> Parcel:
    """The files, with a model card if one is wanted; it stays in the run, to be read without the hub."""
    store = Store(desk.run_dir.parent)
    found = parcel(store, config.model_name_or_path)
    if not config.model_card:
        return found
    found = card.with_card(store, found, config.hub_model_id)
    for item in found.items:
        if item.name in card.NAMES and item.content:
            write_text(desk.run_dir / item.name, item.content.decode())
    return found


@dataclass
class _Progress:
    """Tells how many bytes of all are there, and how long the rest takes at the pace of what was done so far."""

    desk: Desk
    parcel: Parcel
    done: dict[str, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def __call__(self, verb: str, item: Item, count: int) -> None:
        if verb == "uploading":
            self.done[item.name] = count
        if count < item.size_bytes and time.monotonic() - self.told < TELL_S:
            return
        self.told = time.monotonic()
        done, total = sum(self.done.values()), self.parcel.size_bytes
        eta_s = (time.monotonic() - self.started) / done * (total - done) if done else None
        share = count / max(1, item.size_bytes)
        self.desk.reporter.step(done, total, eta_s, f"{verb} {item.name} ({share:.0%}), {size(done)} of {size(total)}")


def _report(repository: Repository, sent: Sequence[Sent], commit: str, seconds: float) -> Report:
    visible = "private" if repository.private else "public: everybody can see it"
    uploaded = sum(one.bytes for one in sent)
    figures = (
        ("address", repository.url),
        ("visible to", visible),
        ("repository", "made by this upload" if repository.created else "was there before"),
        ("commit", commit),
        ("sent", f"{size(uploaded)} in {seconds:.1f} s"),
        ("had it already", size(sum(one.item.size_bytes for one in sent) - uploaded)),
    )
    rows = tuple((one.item.name, size(one.item.size_bytes), _fate(one), one.sha256 or "") for one in sent)
    table = Table(("file", "size", "", "SHA-256"), rows)
    return Report(
        "Upload",
        f"All {len(sent)} files are in {repository.url} ({visible.partition(':')[0]}), as they are here.",
        True,
        (Section("Repository", figures=figures), Section("Files", table=table)),
        {"url": repository.url, "private": repository.private, "uploaded_bytes": uploaded, "seconds": seconds},
    )


def _fate(sent: Sent) -> str:
    return "sent" if sent.bytes else "was there"


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
