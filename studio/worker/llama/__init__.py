"""llama.cpp: its converter to GGUF, its types of weights, and the library itself as the judge of what was written."""
