"""What leaves the studio: merged models, GGUF, Ollama, quantised checkpoints, uploads. Plans and reports, no torch."""
