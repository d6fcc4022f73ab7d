"""Templates lose Transformers' own marks and nothing else."""

from __future__ import annotations

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils.chat_template_utils import render_jinja_template

from studio.worker.llama.texts import CONVERSATIONS, unmarked
from tests.worker.conftest import CHATML

SPACED = "{% for m in messages %}\n  {% generation %}\n  {{ m.content }}\n  {%- endgeneration -%}\n  \n{% endfor %}"


@pytest.mark.parametrize("template", [CHATML, SPACED, SPACED.replace("{% gen", "{%+ gen")])
def test_a_template_without_marks_renders_the_same(template: str) -> None:
    plain = unmarked(template)
    assert "generation %" not in plain
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    for turns in CONVERSATIONS:
        [wanted], _ = render_jinja_template([turns], chat_template=template)
        assert environment.from_string(plain).render(messages=turns, add_generation_prompt=False) == wanted
