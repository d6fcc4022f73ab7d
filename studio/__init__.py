"""Seedbed: a studio where people fine-tune language models."""

__version__ = "0.1.0"
