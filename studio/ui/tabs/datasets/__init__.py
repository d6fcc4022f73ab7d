"""The Datasets tab: a way in for new sets, the list of all, and everything that can be done with the chosen one."""

from studio.ui.tabs.datasets.page import DatasetsTab, build

__all__ = ["DatasetsTab", "build"]
