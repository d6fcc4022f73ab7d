"""The Export tab: adapters merged, models written for other programs, adapters reworked, results uploaded."""

from studio.ui.tabs.export.page import ExportTab, build, on_take

__all__ = ["ExportTab", "build", "on_take"]
