"""Adapters made of adapters, or of the difference of two models."""
