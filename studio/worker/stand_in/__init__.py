"""The stand-in: a model server of Transformers and PEFT that speaks vLLM's HTTP routes.

    python -m studio.worker.stand_in --config serve.yaml

For what vLLM cannot serve: an architecture it does not know, a kind of adapter it refuses, a machine without it. It
computes one row at a time, so it is slow with many requests; what it answers is what Transformers answers.
"""
