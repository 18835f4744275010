"""The host's conversation form as a Jinja template: a server that is sent a question asks it in the words that were trained."""

import json
from typing import Any

from mllm_adapters.contract.host import Host

#: Stands for a question where a prompt is taken apart; no prompt has it.
_QUESTION = "\x00"
# servers see by the loop over the parts of a message that images are placed here and not by themselves
_TEMPLATE = """\
{{{{ {start} }}}}
{{%- for message in messages -%}}
  {{%- set found = namespace(text='', images='') -%}}
  {{%- if message['content'] is string -%}}
    {{%- set found.text = message['content'] -%}}
  {{%- else -%}}
    {{%- for content in message['content'] -%}}
      {{%- if content['type'] == 'text' -%}}
        {{%- set found.text = found.text + content['text'] -%}}
      {{%- elif content['type'] in ('image', 'image_url') -%}}
        {{%- set found.images = found.images + {marker} -%}}
      {{%- endif -%}}
    {{%- endfor -%}}
  {{%- endif -%}}
  {{%- if message['role'] == 'user' -%}}
    {{{{- {head} + found.images + {between} + found.text + {closing} -}}}}
  {{%- elif message['role'] == 'assistant' -%}}
    {{{{- {lead} + found.text + {end} -}}}}
  {{%- else -%}}
    {{{{- raise_exception('this model was trained under one system message, which it is given always') -}}}}
  {{%- endif -%}}
{{%- endfor -%}}
"""


def chat_template(host: Host, tokenizer: Any) -> str:
    """A template that renders one question about an image as `Host.prompt` does, and further turns as fine-tuning does.

    Args:
        host: the family.
        tokenizer: that of the model; where it starts every text with a token, the template does, because servers leave it out.
    """
    prompt = host.prompt(_QUESTION)
    before, _, closing = prompt.removeprefix(host.preamble).partition(_QUESTION)
    head, _, between = before.partition(host.marker) if host.marker else ("", "", before)
    ids = list(tokenizer("a")["input_ids"])
    start = tokenizer.bos_token if ids and ids[0] == tokenizer.bos_token_id else ""
    parts = {
        "start": start + host.preamble,
        "marker": host.marker,
        "head": head,
        "between": between,
        "closing": closing,
        "lead": host.answer(_QUESTION).partition(_QUESTION)[0],
        "end": tokenizer.eos_token if host.ends_with_eos else "",
    }
    return _TEMPLATE.format(**{name: json.dumps(part) for name, part in parts.items()})
