"""Data sets of the Hugging Face hub and of ModelScope: which parts one has, and a part brought into `data/`.

Only data is downloaded and it is only parsed: the loading scripts that some sets have are never run.
"""

from studio.datasets.hub.fetch import download, fetch
from studio.datasets.hub.parts import Part, parts

__all__ = ["Part", "download", "fetch", "parts"]
