"""Checkpoints in the worker: they are written by the trainer, kept by a thread beside it, and read again."""
