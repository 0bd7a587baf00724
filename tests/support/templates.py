"""Chat templates of models in use, as far as turns and tools go, in the tokens of the tests' tokenizer."""

# ruff: noqa: E501 (a line of a template is a line of the prompt)

from support.tiny_models import CHATML

QWEN = """\
{%- if messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}{% for message in messages %}{% if message.role == "user" or (message.role == "system" and not loop.first) %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == "assistant" %}<|im_start|>assistant
{{ message.content }}{% for tool_call in message.tool_calls or [] %}{% set tool_call = tool_call.function or tool_call %}
<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif message.role == "tool" %}{% if loop.first or messages[loop.index0 - 1].role != "tool" %}<|im_start|>user{% endif %}
<tool_response>
{{ message.content }}
</tool_response>{% if loop.last or messages[loop.index0 + 1].role != "tool" %}<|im_end|>
{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
MISTRAL = """\
<s>{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]{% elif message.role == 'assistant' %}{% if message.tool_calls %}[TOOL_CALLS] [{% for c in message.tool_calls %}{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}{% endfor %}]</s>{% else %} {{ message.content }}</s>{% endif %}{% elif message.role == 'tool' %}[TOOL_RESULTS] {"content": {{ message.content | tojson }}, "call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]{% endif %}{% endfor %}"""
LLAMA = """\
{% for message in messages %}{% if message.role == 'tool' %}<|im_start|>ipython</s>

{{ message.content | tojson }}<|im_end|>{% elif message.tool_calls %}<|im_start|>assistant</s>

{"name": "{{ message.tool_calls[0].function.name }}", "parameters": {{ message.tool_calls[0].function.arguments | tojson }}}<|im_end|>{% else %}<|im_start|>{{ message['role'] }}</s>

{{ message['content'] | trim }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant</s>

{% endif %}"""
GEMMA = """\
<s>{% for message in messages %}{% if message.role not in ['user','assistant'] %}{{ raise_exception('roles') }}{% endif %}<|im_start|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}
{{ message['content'] | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>model
{% endif %}"""
TOOLS = {"chatml": CHATML, "qwen": QWEN, "mistral": MISTRAL, "llama": LLAMA}
"""Those that take the results of tools."""

CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "c00000001", "type": "function", "function": {"name": "find", "arguments": {"of": "sand"}}}],
}


def result(text):
    """Return a tool's result."""
    return {"role": "tool", "tool_call_id": "c00000001", "name": "find", "content": text}


def user(text):
    """Return a user's turn."""
    return {"role": "user", "content": text}


def assistant(text):
    """Return an assistant's turn."""
    return {"role": "assistant", "content": text}
