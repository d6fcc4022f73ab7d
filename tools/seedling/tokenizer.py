"""Train the tokenizer: byte-level BPE of 4096 tokens over the corpus, split as Qwen2 splits (single digits).

python tokenizer.py --out ../../studio/assets/seedling
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import corpus
import strings
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 4096
MAX_LENGTH = 2048
SPECIAL = (corpus.END, "<|im_start|>", "<|im_end|>", *(f"<|reserved_{i}|>" for i in range(5)))
# Qwen2's own expression: llama.cpp and others know it by this text
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The generation marks say what is trained: the assistant's text with its end token, not the header before it.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{{- message['content'] + '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def sentences(seed: int, documents: int) -> Iterator[str]:
    """The corpus without its ChatML marks, which are tokens of their own and need no merges.

    Each character of the world comes first, often enough to become a token of its own.
    """
    yield from strings.CHARACTERS * (documents // 400)
    for document in corpus.draw_documents(seed, 0, documents):
        if isinstance(document, str):
            yield document
        else:
            yield from (f"{message['role']}\n{message['content']}\n" for message in document.messages())


def train(seed: int, documents: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    # no normaliser: every text must come back byte for byte
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,  # bytes: four Chinese characters; longer tokens would be phrases of the templates
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(seed, documents), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, out: Path) -> None:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token=corpus.END,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    fast.save_pretrained(out)
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text())
    # transformers 5 writes its own new class name, which other readers do not know
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["chat_template"] = CHAT_TEMPLATE
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--documents", type=int, default=200_000)
    args = parser.parse_args()
    tokenizer = train(args.seed, args.documents)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise SystemExit(f"the corpus gave {tokenizer.get_vocab_size()} tokens, {VOCAB_SIZE} were asked for")
    save(tokenizer, args.out)
    print(f"{args.out}: {VOCAB_SIZE} tokens")


if __name__ == "__main__":
    main()
