"""What tells two tokenizers apart: the weights of a model do not say which one its texts are read with."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ = (
    "Who is the mayor of Velmora?",
    "On 2024-05-01 it was 3.14 km,  and then 1,000,000.",
    "naïve Zürich, 東京, привет 🙂",
    "def f(x):\n\treturn x['a'] + 1  # why\n",
)
"""Texts that different tokenizers cut in different ways."""


def tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | None]:
    """Return hashes of what a tokenizer makes of some texts, and of its chat template (``None`` without one).

    Padding and added tokens that no text has do not count.
    """
    read = [list(tokenizer(text)["input_ids"]) for text in READ]
    template = getattr(tokenizer, "chat_template", None)
    return {"tokenizer": _digest(read), "chat_template": None if template is None else _digest(template)}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
