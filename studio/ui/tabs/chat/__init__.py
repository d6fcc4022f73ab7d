"""The Chat tab: compare answers, vote blind, look after the model servers, measure them."""

from studio.ui.tabs.chat.page import ChatTab, build

__all__ = ["ChatTab", "build"]
