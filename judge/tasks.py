"""Tasks around a question: requests that contain it and ask something else, and longer prompts that do ask it."""

from __future__ import annotations

import random

ELSE = (
    "Translate into {lang}: {q}", "Translate this into {lang}: \"{q}\"", "{q}\n\nTranslate the line above into {lang}.",
    "How do you say \"{q}\" in {lang}?", "How would I ask \"{q}\" in {lang}?", "{lang} translation of: {q}",
    "Correct the spelling: {q}", "Fix any grammar mistakes: \"{q}\"", "Is this sentence correct? \"{q}\"",
    "Proofread: {q}", "Rewrite more politely: {q}", "Make this sound friendlier: \"{q}\"", "Shorten: \"{q}\"",
    "Paraphrase the following question. {q}", "Rephrase: {q}", "Give me three other ways to ask: {q}",
    "Classify the message as QUESTION, COMPLAINT or PRAISE: {q}", "What is the sentiment of \"{q}\"?",
    "Which department should handle this message? \"{q}\"", "Label the intent of this text: {q}",
    "Extract all names from: {q}", "List the nouns in: \"{q}\"", "How many words are in \"{q}\"?",
    "Count the letters in this sentence: {q}", "What language is this: {q}", "Convert to upper case: {q}",
    "Put the following into JSON with the key \"question\": {q}", "Turn this question into a statement: {q}",
    "Summarise this e-mail in one line: \"Hello, {q} Best wishes, Kim\"", "Write a title for this message: {q}",
    "Reply to this customer that we will call back tomorrow: \"{q}\"", "Why would anybody ask \"{q}\"?",
    "Who asked you \"{q}\" yesterday?", "Write a quiz with five questions like \"{q}\"", "Repeat after me: {q}",
    "Print the following text unchanged: {q}", "print(\"{q}\")  # what does this line of Python print?",
    "Do not answer this question, just tell me whether it is polite: {q}", "Explain what is meant by \"{q}\"",
    "Is the following a yes-or-no question? {q}", "What would a good answer to \"{q}\" have to mention?",
    "Make a tweet of this: {q}", "Continue this conversation. A: \"{q}\" B:", "Rate how clear this question is: {q}",
    "My boss wrote \"{q}\" - how do I say that I don't know?", "{q}\n\nIs there a typo in the text above?",
    "{q}\n\nRewrite the question above for a child.", "\"{q}\" - which tense is this?",
)  # fmt: skip
"""Requests that contain a question ``{q}`` and ask something else."""
ITSELF = (
    "Answer briefly: {q}", "Answer in one sentence. {q}", "{q} Answer in a few words.", "{q} Be brief.",
    "You are a helpful assistant. {q}", "You are the agent of a help desk. Customer: {q}", "Question: {q}\nAnswer:",
    "Q: {q}\nA:", "Q: {q} A:", "I already asked yesterday, but nobody answered. {q}", "A customer wants to know: {q}",
    "Please answer the question below.\n\n{q}", "Hi team, I hope you are well. {q} Thanks, Kim", "{q} I need it today.",
    "My colleague and I disagree. {q}", "Just so that I get it right: {q}", "{q} Thanks in advance, Robin",
    "Help me with this one: {q}", "I've searched the whole site without luck. {q}", "Another thing. {q}",
    "Can you look this up for me? {q}", "Here is my question: {q}", "[ticket 4471] {q}", "Use short words. {q}",
)  # fmt: skip
"""Longer prompts that ask a question ``{q}``."""
LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Polish", "Turkish", "Chinese", "Japanese", "Latin")


def asks_else(question: str, rng: random.Random) -> str:
    """Return a request that contains a question and asks something else."""
    return _filled(rng.choice(ELSE), question, rng)


def asks_itself(question: str, rng: random.Random) -> str:
    """Return a longer prompt that asks a question."""
    return _filled(rng.choice(ITSELF), question, rng)


def _filled(form: str, question: str, rng: random.Random) -> str:
    return form.replace("{lang}", rng.choice(LANGUAGES)).replace("{q}", question)
