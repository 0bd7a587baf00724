"""Chat templates: whose words are whose in the tokens of a rendered prompt, and where its answer begins.

``markers.py`` reads a template and finds its turns, ``tools.py`` the results of tools among them, ``spans.py`` the
words that make a key, and ``begun.py`` how much of an answer stands there already.
"""

from __future__ import annotations

from .begun import BegunAnswer, opens_bare, place_in_answer
from .markers import ChatMarkers, reason
from .spans import Span, user_span

__all__ = ["BegunAnswer", "ChatMarkers", "Span", "opens_bare", "place_in_answer", "reason", "user_span"]
