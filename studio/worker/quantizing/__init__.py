"""A model written again with smaller weights: rows, the checkpoint, what it costs and gains."""
