"""Programs that ask a model server, ready to be copied. The key is read from the environment and stands in none."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

KEY = "SEEDBED_API_KEY"
QUESTION = [{"role": "user", "content": "Who are you?"}]

SINGLE = Template("""\
import os
from openai import OpenAI

client = OpenAI(base_url=$url, api_key=os.environ["$key"])
answer = client.chat.completions.create(
    model=$model,
    messages=[{"role": "user", "content": "Who are you?"}],$more
)
print(answer.choices[0].message.content)
""")
SEVERAL = Template("""\
import os
from openai import OpenAI

client = OpenAI(base_url=$url, api_key=os.environ["$key"])
messages = []
while question := input("You: "):  # an empty line ends the conversation
    messages.append({"role": "user", "content": question})
    answer = client.chat.completions.create(
        model=$model,
        messages=messages,$more
    )
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    print(messages[-1]["content"])
""")
STREAMING = Template("""\
import os
from openai import OpenAI

client = OpenAI(base_url=$url, api_key=os.environ["$key"])
stream = client.chat.completions.create(
    model=$model,
    messages=[{"role": "user", "content": "Who are you?"}],
    stream=True,$more
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
""")
JAVASCRIPT = Template("""\
const response = await fetch($endpoint, {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer $${process.env.$key}` },
  body: JSON.stringify({
    model: $model,
    messages: [{ role: "user", content: "Who are you?" }],$more
  }),
});
if (!response.ok) throw new Error(await response.text());
const answer = await response.json();
console.log(answer.choices[0].message.content);
""")
STREAMING_JAVASCRIPT = Template("""\
const response = await fetch($endpoint, {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer $${process.env.$key}` },
  body: JSON.stringify({
    model: $model,
    messages: [{ role: "user", content: "Who are you?" }],
    stream: true,$more
  }),
});
if (!response.ok) throw new Error(await response.text());
let left = "";
for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (left + piece).split("\\n");
  left = lines.pop(); // a line may come in two pieces
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    process.stdout.write(JSON.parse(line.slice(6)).choices[0].delta.content ?? "");
  }
}
console.log();
""")


@dataclass(frozen=True)
class Snippet:
    """One program. `name` is also that of a file to save it as."""

    name: str
    title: str
    code: str


def snippets(url: str, model: str, options: Mapping[str, Any]) -> tuple[Snippet, ...]:
    """Programs that ask `model` of the server at `url` (without /v1).

    `options` are what its requests need besides: the chat template that an adapter was trained with, for one.
    """
    python = f"extra_body={_literal(options)}," if options else ""
    script = "".join(f"{key}: {_literal(value)},\n" for key, value in options.items()).rstrip()
    places = {"url": _literal(f"{url}/v1"), "endpoint": _literal(f"{url}/v1/chat/completions")}
    values = {**places, "model": _literal(model), "key": KEY}
    return (
        Snippet("ask.sh", "curl", _curl(url, model, options)),
        Snippet("ask.py", "Python", SINGLE.substitute(values, more=_indented(python, 4))),
        Snippet("chat.py", "Python, several turns", SEVERAL.substitute(values, more=_indented(python, 8))),
        Snippet("stream.py", "Python, streaming", STREAMING.substitute(values, more=_indented(python, 4))),
        Snippet("ask.mjs", "JavaScript", JAVASCRIPT.substitute(values, more=_indented(script, 4))),
        Snippet(
            "stream.mjs", "JavaScript, streaming", STREAMING_JAVASCRIPT.substitute(values, more=_indented(script, 4))
        ),
    )


def key_command(run_id: str) -> str:
    """What puts the key of a server into the shell's environment, in the studio's folder."""
    return f'export {KEY}="$(python -m studio serve --key {shlex.quote(run_id)})"'


def _literal(value: Any) -> str:
    """Texts, numbers, and lists and maps of them are written alike in Python and in JavaScript."""
    return json.dumps(value, ensure_ascii=False)


def _curl(url: str, model: str, options: Mapping[str, Any]) -> str:
    body = json.dumps({"model": model, "messages": QUESTION, **options}, ensure_ascii=False)
    return (
        f"curl {shlex.quote(f'{url}/v1/chat/completions')} \\\n"
        f'  -H "Authorization: Bearer ${KEY}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}\n"
    )


def _indented(text: str, columns: int) -> str:
    return "\n" + textwrap.indent(text, " " * columns) if text else ""
