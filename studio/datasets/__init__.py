"""Data sets: the registry in `data/`, reading files of any size, canonical rows, upload, preview. No torch."""

from studio.datasets.loading import load
from studio.datasets.registry import Registry

__all__ = ["Registry", "load"]
