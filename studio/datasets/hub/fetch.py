"""A part of a data set on a hub becomes a registered set in `data/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from studio.datasets.detect import Proposal, propose_for
from studio.datasets.entry import HUB_NAMES, HUBS_READ, Entry
from studio.datasets.hub.parts import DEFAULT, Part, parts
from studio.datasets.hub.stream import fetched
from studio.datasets.incoming import placed, publish, workshop
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import format_name, packed_suffix
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from studio.files import safe_name


def download(
    registry: Registry,
    kind: str,
    hub_id: str,
    subset: str | None = None,
    split: str = "train",
    output_name: str | None = None,
    *,
    proposal: Proposal | None = None,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> Entry:
    """Download a split of a set on a hub (hf or ms) and register it; its origin says where it is from.

    Several files become a folder. Without a `proposal` the columns are detected.

    Raises:
        DatasetError: the hub cannot be reached, has no such set or part, or sent what cannot be read.
        Cancelled: as asked; nothing is left.
    """
    part = chosen(parts(kind, hub_id), hub_id, subset, split)
    name = (output_name or _name(hub_id, part)).strip()
    with workshop(registry.data_dir, name) as folder:
        place = _brought(part, folder, name, progress, cancelled)
        entry = (proposal or propose_for(place)).entry(name, place.name)
        origin = {"hub": kind, "id": hub_id, "subset": part.subset, "split": part.split}
        return publish(registry, [(place, replace(entry, origin=origin))])[0]


def fetch(registry: Registry, name: str, *, progress: Progress | None = None, cancelled: Asked | None = None) -> Entry:
    """Download a registered set that is only on a hub; its entry names the file from then on, and stays otherwise.

    Raises: as `download`; DatasetError also for a set that is not on a hub which can be read here.
    """
    entry = registry.entry(name)
    if not entry.remote:
        known = " or ".join(HUB_NAMES[kind] for kind in HUBS_READ)
        raise DatasetError(f"{name} is not a dataset that waits on {known} to be downloaded")
    part = chosen(parts(entry.hub, entry.hub_id, entry.folder), entry.hub_id, entry.subset, entry.split)
    with workshop(registry.data_dir, name) as folder:
        brought = _brought(part, folder, name, progress, cancelled)
        with placed(registry, [brought]) as (place,):
            registry.rewrite(name, lambda spec: {**spec, "file_name": place.name})
    return registry.entry(name)


def chosen(found: Sequence[Part], hub_id: str, subset: str | None, split: str) -> Part:
    """The part that was asked for; where no subset was, the default one or the only one.

    Raises:
        DatasetError: it is not there; says what is.
    """
    subsets = list(dict.fromkeys(part.subset for part in found))
    if subset is None:
        subset = DEFAULT if DEFAULT in subsets else subsets[0] if len(subsets) == 1 else None
    if subset not in subsets:
        raise DatasetError(f"{hub_id} has these subsets: {', '.join(subsets)}. Choose one of them")
    splits = {part.split: part for part in found if part.subset == subset}
    if split not in splits:
        raise DatasetError(f"{hub_id} has no split {split!r}; it has {', '.join(splits)}")
    return splits[split]


def _name(hub_id: str, part: Part) -> str:
    said = [hub_id.rpartition("/")[2], part.subset if part.subset != DEFAULT else "", part.split]
    return "-".join(filter(None, said[:2] if part.split == "train" else said))


def _brought(part: Part, folder: Path, name: str, progress: Progress | None, cancelled: Asked | None) -> Path:
    """The files of `part` in `folder`: one as a file, several in a folder."""
    single = len(part.files) == 1
    place = folder / safe_name(name + (_suffix(part.files[0].path) if single else ""))
    if not single:
        place.mkdir()
    done = 0
    for number, file in enumerate(part.files):
        target = place if single else place / f"{number:05d}-{safe_name(file.path.replace('/', '-'))}"
        for count in fetched(file, target, cancelled):
            done += count
            if progress is not None:
                progress(done, max(done, part.bytes))
    return place


def _suffix(path: str) -> str:
    return format_name(path) + packed_suffix(path)
