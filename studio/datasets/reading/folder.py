"""A folder of data files of one kind, read as one file: in the order of their names, inner folders included.

Hidden files and what describes the data (README, LICENSE, Markdown) are no data. Anything else that cannot be read
is refused by name, never passed over.
"""

from __future__ import annotations

from pathlib import Path

from studio.errors import UploadError

FILES_MAX = 10_000
_ABOUT_STEMS = ("readme", "license", "licence", "notice", "citation")
_ABOUT_SUFFIXES = (".md", ".rst")


def files_in(folder: Path) -> tuple[Path, ...]:
    """The data files of `folder` in the order in which they are read.

    Raises:
        UploadError: there are none, or too many, or one is a link to a place outside of the folder.
    """
    top = folder.resolve()
    found = sorted(path for path in folder.rglob("*") if path.is_file() and _is_data(path.relative_to(folder)))
    if not found:
        raise UploadError(f"the folder {folder.name} has no data files")
    if len(found) > FILES_MAX:
        raise UploadError(f"the folder {folder.name} has more than {FILES_MAX} files: join them")
    for path in found:
        if not path.resolve().is_relative_to(top):
            raise UploadError(f"{path.name} is a link to a file outside of the folder {folder.name}: copy the file")
    return tuple(found)


def refuse_mixed(folder: Path, families: dict[str, Path]) -> None:
    """`families` are the kinds of file that were found, with an example of each.

    Raises:
        UploadError: there are several.
    """
    if len(families) > 1:
        examples = " and ".join(sorted(path.name for path in families.values())[:2])
        raise UploadError(f"the folder {folder.name} mixes kinds of files ({examples}): keep one kind in it")


def _is_data(path: Path) -> bool:
    if any(part.startswith((".", "_")) for part in path.parts):
        return False
    name = path.name.lower()
    return not name.endswith(_ABOUT_SUFFIXES) and name.partition(".")[0] not in _ABOUT_STEMS
