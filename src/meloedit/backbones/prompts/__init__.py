"""How families read prompts, without a model: ``reader.py`` is the interface, ``causal.py`` decoder-only models."""

from __future__ import annotations

from .causal import CausalPrompts
from .reader import PromptReader

__all__ = ["CausalPrompts", "PromptReader"]
