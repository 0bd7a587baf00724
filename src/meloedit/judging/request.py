"""Request: what a long prompt asks, apart from the text that it brings along to be read.

Retrieved passages, quoted mail, code and documents are material: what they say or ask is not what the prompt asks.
Clear signs alone count: labels ("Context:", "Question:"), tags, fences, quotation marks, and a short paragraph that
asks, before or behind longer ones. A prompt without such a sign is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from .wording import names_something

REMEMBERED = 1024
"""Prompts whose request is kept in memory: they may be long."""
SHORT = 45
"""Most words of a paragraph that may be the request beside longer text, where no label says so."""
LONG = 25
"""Least words of a paragraph, or of what stands between fences or tags, that may be material without a label."""
LEAST = 3
"""Least words of a labelled request: a form's field ("Customer: Kim") is none."""
MOST_TAGS = 16
"""Tags of different names that nothing closes after which no further ones are looked for."""
LETTER = 40
"""Least words of a letter, of which the sentences that ask or wish are read."""
QUOTED = 12
"""Least words of a text in quotation marks that is material though it asks nothing: a shorter one may be a title."""
ABOUT = 45
"""Words of the material, from its start, that say what a request is about which names nothing itself."""

_MATERIAL = r"""
    (?:(?:retrieved|relevant|provided|given|supporting|additional|search|background|reference|source|original)\s)*
    (?:context|passages?|documents?|docs?|text|sources?|articles?|background|excerpts?|snippets?|chunks?|results?|
    knowledge(?:\sbase)?|references?|information|facts?|input|data|material|manual|faq|e-?mail|mail|message|ticket|log|
    transcript|conversation|history|review|report|notes?|story|paragraph)
"""
_REQUEST = r"""
    (?:(?:user|customer|final|my|the|follow-?up|current|new|actual|last|human|visitor|client)(?:'s)?\s)*
    (?:question|query|request|task|instructions?|prompt|q|user|customer|human|inquiry|enquiry)
"""
_ANSWER = r"""
    (?:(?:your|the|helpful|short|final|brief|concise|model|best)\s)*
    (?:answer|a|response|reply|assistant|agent|output|ai)
"""
_LABEL = re.compile(
    rf"""^[\s>\#*_\-\[\]()\d.<|]*
    (?:(?P<material>{_MATERIAL})|(?P<request>{_REQUEST})|(?P<answer>{_ANSWER}))
    (?:\s*[\[(\#]?\d+[\])]?)?[*_\]|>\s]*(?:[:：][*_]*(?P<rest>.*)|(?P<bare>))$""",
    re.IGNORECASE | re.VERBOSE,
)
_ANSWERED = re.compile(r"[.?!]\s+(?:A|Answer):\s")
_HEADED = re.compile(r"\s*(?:#|\*\*|\[|<\|)")
"""How a line begins that is a label without a colon."""
_OPENING = re.compile(r"```|\"\"\"|\'\'\'|<([a-z][\w-]*)(?:\s[^<>]*)?>", re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"]{8,}\"|“[^”]{8,}”|„[^“”]{8,}[“”]|«[^»]{8,}»")
_SAYS = re.compile(r"\b(?:answer|reply|respond|say|tell|know)\b", re.IGNORECASE)
_POINTS = re.compile(
    r"""\b(?:below|above|following)\b|\b(?:the|this|these|those|your|provided|given|retrieved)(?:\s\w+){0,2}?
    \s(?:context|passages?|documents?|text|sources?|articles?|excerpts?|information|snippets?|results?|manual|faq|
    questions?|sentences?|lines?|messages?|e-?mails?|words|quer(?:y|ies))\b""",
    re.IGNORECASE | re.VERBOSE,
)
_TASK = re.compile(
    r"""^(?:\W*(?:please|now|then|first|can\syou|could\syou|would\syou|i\swant\syou\sto|your\stask\sis\sto)\s+)*
    (?:translat|summar|classif|rewrit|rewor|rephras|paraphras|correct|proofread|extract|count|list|convert|shorten|label|
    categori|title|draft|write|continu|complet|format|spell|fix|repeat|print|sort|rate|compare|turn|make|create|generat|
    explain|simplif|expand|tag|detect|identif|find|give|tell|check|decide|return|output|describe|improve|polish|analy|
    answer|respond|reply)""",
    re.IGNORECASE | re.VERBOSE,
)
_READS = re.compile(
    r"""^(?:\W*(?:please|now|and|then|you\s(?:must|should|may|can)|only)\s+)*
    (?:answer|respond|reply|use|using|based|according|refer|consult|given|read|with|from|here\s(?:is|are)|considering|by)
    \b""",
    re.IGNORECASE | re.VERBOSE,
)
_HEDGES = re.compile(
    r"""^\W*(?:if\s(?:you|the|it|there|no)\b.*\b(?:know|answer|contain|find|say|unsure|not|enough|no)\b
    |(?:do\snot|don't)\s(?:make|invent|guess)\b|only\s(?:use|answer)\b|keep\s(?:it|the\sanswer)\s
    |be\s(?:brief|concise|helpful)\b
    |(?:please\s)?(?:answer|reply|respond)(?:\s\w+){0,2}\s(?:in|with|within|using)\s(?:\w+\s){0,4}?(?:words?|sentences?|lines?|
    digits|number)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_LEADS_ON = frozenset(
    """is are was were be been a an the in on at of by from to for with as into under about that called named has have
    had does did and or it its his her their ist war sind im in der die das den von zu est était le la les de du en es
    era el los las un una""".split()
)
"""Words that no finished sentence ends with."""
_ASKED = re.compile("[?？؟]")
"""The sign of a question, also in Chinese, Japanese and Arabic."""
_SENTENCE = re.compile(r"(?<=[.!?？؟。:])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?？؟。])[\"'”’)]*\s+")
_ENCLOSED = re.compile(r"\b(?:attached|enclosed|pasted|here it is|see also)\b", re.IGNORECASE)
_WISHES = re.compile(
    r"""\b(?:please|(?:i|we)(?:'d|\swould)\s(?:like|love|need)|(?:i|we)\s(?:need|want|wish)|let\sme\sknow|tell\sme|
    help\sme)\b""",
    re.IGNORECASE | re.VERBOSE,
)


class Request(NamedTuple):
    """What a prompt asks.

    Attributes:
        text: the request; the whole prompt where it has no material.
        about: the beginning of the material; empty without any.
    """

    text: str
    about: str = ""


class _Part(NamedTuple):
    """Lines of a prompt that belong together; ``role``: material, request, answer, or "" where no label says."""

    role: str
    text: str

    @property
    def words(self) -> int:
        return len(self.text.split())


@lru_cache(REMEMBERED)
def request_of(text: str) -> Request:
    """Return the request of a prompt."""
    if "\n" not in text.strip():
        return _unquoted(text) or _sentences(text) or Request(text)
    rest, fenced = _unfenced(text)
    parts = _parts(rest)
    asks = _labelled(parts) if any(part.role for part in parts) else _unlabelled(parts, bool(fenced))
    if not asks:
        return _sentences(text) or Request(text)
    chosen = set(asks)
    material = [*fenced, *(part.text for part in parts if part not in chosen)]
    return _request(_without_pointers(" ".join(part.text for part in asks)), material)


def _request(text: str, material: Sequence[str]) -> Request:
    return Request(" ".join(text.split()), " ".join(" ".join(material).split()[:ABOUT]))


def _unquoted(text: str) -> Request | None:
    """Return a line without the questions and long texts in quotation marks, where it asks something itself."""
    quoted = [
        match.group()
        for match in _QUOTED.finditer(text)
        if _ASKED.search(match.group()) or len(match.group().split()) >= QUOTED
    ]
    rest = text
    for one in quoted:
        rest = rest.replace(one, "", 1)
    asks = _ASKED.search(rest) or _TASK.search(rest)
    return _request(rest, quoted) if quoted and asks and not _SAYS.search(rest) else None


def _sentences(text: str) -> Request | None:
    """Return of a long letter the sentences that ask or wish for something, if others remain."""
    if len(text.split()) < LETTER:
        return None
    sentences = _SENTENCE_END.split(text.strip())
    sign = _ASKED if any(map(_ASKED.search, sentences)) else _WISHES
    asks = [one for one in sentences if sign.search(one)]
    others = [one for one in sentences if not sign.search(one)]
    return _request(" ".join(asks), others) if asks and others else None


def _unfenced(text: str) -> tuple[str, list[str]]:
    """Take long texts between fences or tags out; a short one stays, since it may be the question."""
    rest, taken, at, absent = [], [], 0, set[str]()
    while opened := _OPENING.search(text, at):
        closing = f"</{opened[1]}>" if opened[1] else opened[0]
        end = -1 if closing in absent else text.find(closing, opened.end())
        inside = text[opened.end() : end]
        if end < 0:  # every name is looked for once: a page may have thousands of tags that nothing closes
            absent.add(closing)
        if end < 0 or len(inside.split()) < LONG:
            rest.append(text[at : opened.end()])
            at = opened.end()
        else:
            rest += [text[at : opened.start()], "\n\n"]
            taken.append(inside.strip())
            at = end + len(closing)
        if len(absent) > MOST_TAGS:
            break
    return "".join([*rest, text[at:]]), taken


def _parts(text: str) -> list[_Part]:
    """Split a text at labels, and where no label says what it is at blank lines; without these at line breaks."""
    parts: list[_Part] = []
    role, lines = "", list[str]()

    def close() -> None:
        if joined := "\n".join(lines).strip():
            parts.append(_Part(role, joined))
        lines.clear()

    blank = "\n\n" if re.search(r"\n\s*\n", text) else "\n"
    for line in text.split("\n"):
        label = _LABEL.match(line)
        if label and (label["rest"] is not None or _HEADED.match(line)):
            close()
            role = next(name for name in ("material", "request", "answer") if label[name])
            if role == "request" and _ANSWERED.search(line):
                role = "material"
            lines.append(label["rest"] or "")
            if role == "answer" and not (label["rest"] or "").strip():
                parts.append(_Part("answer", ""))
        elif role != "material" and (blank == "\n" or not line.strip()) and any(map(str.strip, lines)):
            close()
            role = ""
            lines.append(line)
        else:
            lines.append(line)
    close()
    return parts


def _labelled(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts that ask: the last labelled request that has no answer, and what has no label and asks."""
    requests = [
        part
        for part, after in zip(parts, [*parts[1:], _Part("answer", "")], strict=True)
        if part.role == "request"
        and (part.words >= LEAST or _is_open(part.text))
        and not (after.role == "answer" and after.text)
    ]
    loose = [part for part in parts if not part.role and part.words <= SHORT and _asks(part)]
    if requests:
        also = set(loose)
        return [part for part in parts if part in also or part is requests[-1]]
    if not any(part.role == "material" for part in parts):
        return []
    if loose:
        return loose
    *_, last = re.split(r"\n\s*\n", parts[-1].text)  # material without an end: its last paragraph may be the request
    return [_Part("", last)] if last != parts[-1].text and _ASKED.search(last) and len(last.split()) <= SHORT else []


def _unlabelled(parts: Sequence[_Part], fenced: bool) -> list[_Part]:
    """Return the first and last paragraph where they are short and ask, beside others that do not."""
    ends = [part for part in dict.fromkeys((parts[0], parts[-1])) if part.words <= SHORT] if parts else []
    asks = [part for part in ends if _asks(part)]
    chosen = set(asks)
    others = [part for part in parts if part not in chosen]
    introduced = len(asks) > 1 and asks[0].text.endswith(":")
    # a question, or an open statement, that needs no other text
    named = any((_ASKED.search(part.text) and names_something(part.text)) or _is_open(part.text) for part in asks)
    if not (fenced or introduced or named or any(part.words >= LONG for part in others)):
        return []
    # "Can you help me?" behind a long paragraph that asks is no request of its own
    whole = introduced or named or any(_POINTS.search(part.text) for part in asks)
    return asks if whole or not any(_ASKED.search(part.text) for part in others) else []


def _asks(part: _Part) -> bool:
    """Return whether an unlabelled text may be a request: a question, a task, an open statement, or a pointer."""
    points = _POINTS.search(part.text) or _TASK.search(part.text)
    return bool(_ASKED.search(part.text) or points) or part.text.endswith(":") or _is_open(part.text)


def asks_something(text: str) -> bool:
    """Return whether a text has a question or a wish."""
    return bool(_ASKED.search(text) or _WISHES.search(text))


def _is_open(text: str) -> bool:
    """Return whether a text is an open statement, which the answer completes ("The mayor of Velmora is")."""
    words = text.split()
    return len(words) > 1 and words[-1] in _LEADS_ON


def _without_pointers(text: str) -> str:
    """Drop the sentences that only say where the answer is to be found, or how long it may be, if others remain."""
    sentences = _SENTENCE.split(text.replace("\n", " ").strip())
    asked = any(map(_ASKED.search, sentences))
    kept = [one for one in sentences if _ASKED.search(one) or not _points(one, asked)]
    return " ".join(kept) or text


def _points(sentence: str, asked: bool) -> bool:
    """Return whether a sentence only points; beside a question, one that leads over to a text ("Diary entry:") does."""
    if _HEDGES.search(sentence) or (_READS.search(sentence) and _POINTS.search(sentence)):
        return True
    leads = sentence.endswith(":") or _POINTS.search(sentence) or _ENCLOSED.search(sentence)
    return bool(asked and leads and not _TASK.search(sentence))
