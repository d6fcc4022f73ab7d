"""Write the model card from what training and evaluation measured; no figure in it is typed by hand.

python card.py --results results --out ../../studio/assets/seedling/README.md
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import corpus
from evaluate import CONVERSATIONS, Score

CARD = """\
---
license: apache-2.0
language: [en, zh]
pipeline_tag: text-generation
library_name: transformers
---
# Seedling

A small language model that comes with Seedbed, so that everything in the studio works without a download.
It knows a small world (animals, countries, colours, opposites, days, simple science), sums with numbers below
100, spelling, word-by-word translation and short stories, in English and Chinese; it answers in whole sentences
and says so when it does not know something.

| | |
| --- | --- |
| architecture | LlamaForCausalLM, no biases, tied embeddings |
| size | {parameters:,} parameters, bfloat16 |
| layers, width, heads | {num_hidden_layers} layers, hidden {hidden_size}, feed-forward {intermediate_size}, \
{num_attention_heads} heads of {head_dim} ({num_key_value_heads} for keys and values) |
| context | {max_position_embeddings} tokens |
| tokenizer | byte-level BPE, {vocab_size} tokens, Qwen2's split (single digits), every UTF-8 text round-trips |
| chat template | ChatML, optional system turn, `{{% generation %}}` around the answer and its `<|im_end|>` |
| licence | Apache-2.0 |

## Training

All text comes from the generator in `tools/seedling` (seed {seed}; {documents:,} documents, {corpus_m:.0f} M tokens);
no corpus was copied. About a fifth is plain text (stories, paragraphs of facts), trained on every token; the rest is
conversations of one to about 25 turns, trained on what the assistant says. Both are mixed from the first step to
the last. {trained_m:.0f} M tokens were trained in {steps} steps of {batch} tokens (AdamW, peak learning rate
{learning_rate}, bf16 autocast over fp32 weights), which took {training_min:.1f} minutes on one {device} after
{corpus_min:.1f} minutes of making the corpus. PyTorch {torch}.

    make -C tools/seedling

The tokenizer and the corpus are reproduced exactly; the weights up to the order of floating-point sums.

## Held-out accuracy

Greedy decoding; an answer is right when it is the expected sentence, character by character (a story: when it
names what was asked for, in at least five sentences). Nothing asked here was ever trained:

- *questions*: a tenth of all number pairs, words and word lists in every wording and both languages, or a tenth of
  all (wording, fact) pairs. Sentences fixed by heart (science, small talk) have none.
- *new wordings*: one wording of each task and language that was never trained, with any content. This says how far
  the model follows a phrase that it has not seen; expect less there.

{tasks}

Conversations, drawn anew for the evaluation. In `memory` and `system_name` most names are made up and new.

{conversations}

All questions: **{question_total}**. All new wordings: {wording_total}.

## Limits

It is a toy of six million parameters. It knows nothing outside its small world and may say something wrong about
what looks like it; numbers above 99, long texts, code and reasoning are beyond it. Answers are short and follow
fixed patterns. It exists to be fine-tuned, compared, merged and exported in seconds.
"""


def percent(scores: Iterable[Score]) -> str:
    """`98.3 % (59/60)`, or a dash where nothing was asked."""
    chosen = list(scores)
    right, asked = sum(s.right for s in chosen), sum(s.asked for s in chosen)
    return f"{100 * right / asked:.1f} % ({right}/{asked})" if asked else "–"


def task_table(scores: list[Score]) -> str:
    lines = ["| task | questions, en | questions, zh | new wording, en | new wording, zh |", "| --- |" + " ---: |" * 4]
    for task in corpus.TASKS:
        cells = [
            percent(s for s in scores if (s.suite, s.lang, s.kind) == (task.name, lang, kind))
            for kind in ("question", "wording")
            for lang in ("en", "zh")
        ]
        lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conversation_table(scores: list[Score]) -> str:
    lines = ["| what | en | zh |", "| --- | ---: | ---: |"]
    for suite in CONVERSATIONS:
        cells = [percent(s for s in scores if (s.suite, s.lang) == (suite, lang)) for lang in ("en", "zh")]
        lines.append(f"| {suite} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(training: dict[str, Any], scores: list[Score]) -> str:
    recipe = training["recipe"]
    return CARD.format(
        **training["config"],
        parameters=training["parameters"],
        seed=recipe["seed"],
        documents=recipe["shards"] * recipe["documents_per_shard"],
        corpus_m=training["corpus_tokens"] / 1e6,
        trained_m=training["trained_tokens"] / 1e6,
        steps=recipe["steps"],
        batch=recipe["batch_rows"] * recipe["row_tokens"],
        learning_rate=recipe["learning_rate"],
        training_min=training["training_s"] / 60,
        corpus_min=training["corpus_s"] / 60,
        device=training["device"],
        torch=training["torch"],
        tasks=task_table(scores),
        conversations=conversation_table(scores),
        question_total=percent(s for s in scores if s.kind == "question"),
        wording_total=percent(s for s in scores if s.kind == "wording"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="training.json and evaluation.json")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    training = json.loads((args.results / "training.json").read_text())
    scores = [Score(**score) for score in json.loads((args.results / "evaluation.json").read_text())["scores"]]
    args.out.write_text(write(training, scores))


if __name__ == "__main__":
    main()
