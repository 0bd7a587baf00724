"""All kinds of complaints together."""

from other_questions import OTHER_QUESTIONS
from surroundings import CONVERSATIONS, REQUESTS
from wordings import LANGUAGES, SPELLINGS

KINDS = REQUESTS | OTHER_QUESTIONS | SPELLINGS | LANGUAGES | CONVERSATIONS


def question(prompt):
    """Return a prompt as the table of docs/prompts.md has it: in one line, the turns of a chat with slashes between."""
    text = prompt if isinstance(prompt, str) else " / ".join(turn["content"] for turn in prompt)
    return " ".join(text.split())
