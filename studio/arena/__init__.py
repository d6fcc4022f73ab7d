"""Models that answer the same prompts, votes on their answers, and what follows from votes: figures and datasets."""
