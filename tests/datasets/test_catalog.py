import shutil
from pathlib import Path

from studio.datasets import Registry, catalog
from studio.datasets.entry import describe


def test_llamafactorys_registry_is_listed_whole(public_data: Path, data_dir: Path) -> None:
    for path in public_data.iterdir():
        shutil.copy(path, data_dir)
    listings = catalog.listings(Registry(data_dir))
    assert len(listings) == 104
    usable = {listing.name: (listing.shape, listing.rows) for listing in listings if not listing.note}
    assert usable == {
        "identity": ("conversation", 91),
        "alpaca_en_demo": ("conversation", 999),
        "alpaca_zh_demo": ("conversation", 1000),
        "glaive_toolcall_en_demo": ("conversation", 300),
        "dpo_en_demo": ("preference", 300),
        "kto_en_demo": ("feedback", 300),
        "wiki_demo": ("text", 30),
    }


def test_a_file_that_cannot_be_read_is_noted(data_dir: Path) -> None:
    (data_dir / "a.jsonl").write_bytes(b"\x00")
    (data_dir / "b.jsonl").write_text('{"instruction": "q"}\n' * 30)
    registry = Registry(data_dir)
    registry.add(describe("a", "a.jsonl"))
    registry.add(describe("b", "b.jsonl"))
    damaged, misread = catalog.listings(registry)
    assert "not text" in damaged.note
    assert (misread.rows, misread.shape, misread.note) == (30, "", "")


def test_a_folder_counts_as_one_set(data_dir: Path) -> None:
    (data_dir / "many").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (data_dir / "many" / name).write_text('{"instruction": "q", "output": "a"}\n')
    registry = Registry(data_dir)
    registry.add(describe("many", "many"))
    (line,) = catalog.listings(registry)
    assert (line.rows, line.shape, line.bytes, line.note) == (2, "conversation", 72, "")


def test_what_is_only_on_a_hub_is_listed_as_such(data_dir: Path) -> None:
    registry = Registry(data_dir)
    registry.path.write_text('{"a": {"hf_hub_url": "x/y"}, "b": {"om_hub_url": "x/y"}, "c": {"script_url": "z"}}')
    notes = {line.name: line.note for line in catalog.listings(registry)}
    assert "the Hugging Face hub (x/y), not on this computer: download it" in notes["a"]
    assert "Modelers (x/y), not on this computer: download its file and upload that" in notes["b"]
    assert "never run here" in notes["c"]
    assert [entry.remote for entry in registry.entries()] == [True, False, False]
