"""Every shape that a row may have, read as one of four canonical values, and written back in any shape."""

from studio.datasets.formats.canonical import Conversation, Feedback, Message, Preference, Row, Text, ToolCall, chat
from studio.datasets.formats.fields import Misfit, shown
from studio.datasets.formats.reading import FORMATS, convert
from studio.datasets.formats.writing import SHAPES, shaped, to_record

__all__ = [
    "FORMATS",
    "SHAPES",
    "Conversation",
    "Feedback",
    "Message",
    "Misfit",
    "Preference",
    "Row",
    "Text",
    "ToolCall",
    "chat",
    "convert",
    "shaped",
    "shown",
    "to_record",
]
