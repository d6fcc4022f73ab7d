"""What every tab needs: the folders, and nothing that outlives a request."""

from __future__ import annotations

from dataclasses import dataclass, field

from studio.datasets.inspector import Inspector
from studio.datasets.registry import Registry
from studio.runs.store import Store
from studio.settings import Settings


@dataclass(frozen=True)
class Context:
    """Handed to each tab's `build`; handlers get it by `partial`."""

    settings: Settings
    store: Store
    registry: Registry
    inspector: Inspector = field(default_factory=Inspector)

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """The context of a studio with these settings."""
        return cls(settings, Store(settings.saves_dir), Registry(settings.data_dir))
