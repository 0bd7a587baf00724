"""Guards: differences between a prompt and a wording that the judge overlooks too easily; each costs score.

Each looks at both sides: a word or number that one has, where the other has its opposite or another number instead.
Several languages' opposites stand in one table, since a word of one is no word of another. Pairs that a rewording may
turn round are left out ("until when is it open", "when does it close").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from ..keys.names import fold
from .abbreviations import other_abbreviation
from .contrasts import contrasted, names_another
from .differences import exchanged, only_that, swapped
from .statements import tells_of_others

Guard = Literal["opposite", "number", "abbreviation", "direction", "yes or no", "task", "negation", "statement"]
PENALTY = 2.5
"""What a guard takes from the judge's score, as log-odds: a judge that is sure prevails."""
FORM_PENALTY = 5.0
"""What it takes where the prompt wants an answer of another form: a judge looks at what a question is about."""
CERTAIN = 12.0
"""What it takes where the two texts have nothing else that differs: no judge prevails."""

_PAIRS = """
    enable disable|activate deactivate|turn-on turn-off|switch-on switch-off|turn-on switch-off|
    switch-on turn-off|enable turn-off|enable switch-off|activate turn-off|activate switch-off|disable turn-on|
    disable switch-on|deactivate turn-on|deactivate switch-on|enable deactivate|disable activate|
    lock unlock|block unlock|lock unblock|install uninstall|mute unmute|
    subscribe unsubscribe|block unblock|pair unpair|pin unpin|freeze unfreeze|import export|imports exports|
    upload download|upgrade downgrade|login logout|log-in log-out|sign-in sign-out|minimum maximum|minimal maximal|
    min max|shortest longest|lowest highest|smallest largest|least most|fewest most|earliest latest|youngest oldest|
    first last|arrive depart|arrives departs|arrival departure|arrivals departures|inbound outbound|incoming outgoing|
    sender recipient|increase decrease|start end|starts ends|begin end|begins ends|indoor outdoor|child adult|
    children adults|male female|mother father|son daughter|brother sister|husband wife|northern southern|
    eastern western|weekdays weekends|weekday weekend|prepaid postpaid|including excluding|lend borrow|won lost|
    employer employee|foreign domestic|landlord tenant|above below|upstream downstream|best worst|fast slow|
    add remove|opens closes|longer shorter|larger smaller|upper lower|previous next|allow forbid|aunt uncle|king queen|
    grandmother grandfather|odd even|major minor|indoors outdoors|weekly monthly|send receive|create delete|join leave|
    start stop|born died|born die|birth death|gross net|north south|east west|inside outside|early late|spring autumn|
    morning evening|winter summer|resident visitor|residents visitors|new existing|
    aktivieren deaktivieren|einschalten ausschalten|anmelden abmelden|
    frühestens spätestens|mindestens höchstens|erste letzte|ersten letzten|ankunft abfahrt|kinder erwachsene|
    activer désactiver|premier dernier|enfant adulte|activar desactivar|mínimo máximo|primero último|primer último|
    开启 关闭|打开 关闭|最早 最晚|最高 最低|最多 最少|之前 之后|儿童 成人
"""
_OPPOSITES = [tuple(pair.strip().split()) for pair in _PAIRS.split("|")]
_OF: dict[str, set[str]] = {}
for _one, _other in _OPPOSITES:
    _OF.setdefault(_one, set()).add(_other)
    _OF.setdefault(_other, set()).add(_one)
_UNSPACED = [word for word in _OF if not word.isascii() and len(word) == 2 and "\u4e00" <= word[0] <= "\u9fff"]
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,:]\d+)*(?![\w])")
_PARTICLE = re.compile(r"\b(turn|switch|log|sign)(?:ed|ing|s)?\b((?:\s+\w+){0,3}?)\s+(on|off|in|out)\b")
_FROM_TO = re.compile(r"\bfrom\s+(?:the\s+)?(\w[\w-]*).{0,40}?\b(?:to|into)\s+(?:the\s+)?(\w[\w-]*)", re.IGNORECASE)
_TO = re.compile(r"\b(\w[\w-]*)\s+(?:to|into)\s+(?:the\s+)?(\w[\w-]*)", re.IGNORECASE)
_BEGINS = re.compile(
    r"\b(?:from|since)\s(?:when|wh(?:at|ich)\s(?:time|day|date|month|year))\b|\bab\swann\b", re.IGNORECASE
)
_ENDS = re.compile(
    r"\b(?:by|until|till|up\sto)\s(?:when|wh(?:at|ich)\s(?:time|day|date|month|year))\b|\bbis\swann\b", re.IGNORECASE
)
_OPEN = re.compile(
    r"""\b(?:who|whom|whose|what|which|when|where|why|how|wer|welche\w*|wann|wo|warum|wie|wohin|qui|que|quoi|quel\w*|
    quand|où|pourquoi|combien|quién|qué|cuál\w*|cuándo|dónde|cómo|cuánt\w*)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OPEN_AT_START = re.compile(
    r"""^\W*(?:(?:please\W+)?(?:name|comment)
    |was\s(?:ist|sind|war|waren|kann|muss|soll|gilt|heißt|bedeutet|(?:kost|zahl|mach|brauch|passier)\w+))\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words that ask who, what or how at the start alone: elsewhere "was", "name" and "comment" are others."""
_YES_OR_NO = re.compile(
    r"""\b(?:true\sor\sfalse|yes\sor\sno|right\sor\swrong|richtig\soder\sfalsch|ja\soder\snein|vrai\sou\sfaux|
    oui\sou\snon|verdadero\so\sfalso|sí\so\sno)\b
    |^\W*(?:(?:hi|hello|hey|please|so|and|but|well|ok|okay)\W+)*
    (?:is|are|was|were|do|does|did|has|have|had|must|isn't|aren't|wasn't|doesn't|didn't)\s+
    (?!it\s(?:possible|ok)|(?:there|you|i|we|anyone|anybody)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_TASK = re.compile(
    r"""\b(?:translat\w+|proofread|paraphras\w+|rephras\w+|reword\w*|summari[sz]\w+|spell-?check\w*|sentiment|
    (?:upper|lower)-?\s?case|fact-?check\w*
    |(?:of|in|to|from|classify|correct|fix|rewrite|shorten|extract|label|repeat)\s(?:this|the\sfollowing|the\sabove)
    \s(?:sentence|question|text|line|message|e-?mail|statement|words?))\b""",
    re.IGNORECASE | re.VERBOSE,
)
_NEGATION = re.compile(
    r"""\b(?:apart\sfrom|other\sthan|aside\sfrom)\b
    |(?:(?:^|[.!?:;,]\s)\W*|\b(?:tell\sme|know|say)\s)(?:who|whom|which|what|where|when|how|why)\b(?:\s\w+){0,3}?\s
    (?:(?:is|are|was|were|do|does|did|can|may|must|should|has|have|had)(?:\s\w+){0,2}?\snot(?!\sonly)
    |(?:is|are|was|were|do|does|did|ca|must|should|has|have|had)n't|cannot|never|nothing)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""A question of what is not so: its own clause denies, and not a later one ("What do I do if it is not there?")."""
_DENIES = re.compile(r"\b(?:not|never|cannot|nothing|apart\sfrom|other\sthan|aside\sfrom)\b|n't\b", re.IGNORECASE)


def guard_of(prompt: str, wording: str) -> Guard | None:
    """Return the guard that keeps a prompt from being taken for a wording; ``None`` if there is none.

    ``opposite``: the prompt has the opposite of a word of the wording, and not the word itself, nor the wording the
    opposite; or a contrast of it, where all else is the same; or another day or month. ``number``: each has a number
    that the other lacks, and they have as many. ``abbreviation``: the same words but for another abbreviation.
    ``direction``: from A to B in one, from B to A in the other, or two parts exchanged. ``yes or no``: the wording asks
    who, what, how or the like, the prompt whether something is so. ``task``: the prompt wants something done with a
    text. ``negation``: it asks what is not so. ``statement``: it is a long text that asks nothing, and has no name of
    the wording.
    """
    return next((guard for guard, speaks in _GUARDS.items() if speaks(prompt, wording)), None)


def _has_opposite(prompt: str, wording: str) -> bool:
    mine, its = _words(prompt), _words(wording)
    turned = any((_OF.get(word, set()) & mine) - its for word in its - mine)
    return (
        turned or _asks_for_other_end(prompt, wording) or contrasted(prompt, wording) or names_another(prompt, wording)
    )


def _asks_for_other_end(prompt: str, wording: str) -> bool:
    """Return whether one asks from when something is so, the other until when."""
    return any(_BEGINS.search(one) and _ENDS.search(other) for one, other in ((prompt, wording), (wording, prompt)))


def _has_other_number(prompt: str, wording: str) -> bool:
    first, second = _numbers(prompt), _numbers(wording)
    return bool(len(first) == len(second) and first - second and second - first)


def _goes_the_other_way(prompt: str, wording: str) -> bool:
    return _is_way_back(prompt, wording) or swapped(prompt, wording) or exchanged(prompt, wording)


def _is_way_back(prompt: str, wording: str) -> bool:
    here, there = _ways(prompt), _ways(wording)
    return bool({(end, start) for start, end in here if start != end} & there) and not here & there


def _ways(text: str) -> set[tuple[str, str]]:
    """Return where a text goes from, and to: "from A to B", "A to B"."""
    text = text.casefold()
    return {match.groups() for way in (_FROM_TO, _TO) for match in way.finditer(text)}  # type: ignore[misc]


def _asks_whether(prompt: str, wording: str) -> bool:
    return _wants_yes_or_no(prompt) and not _OPEN.search(prompt) and _is_open(wording)


def _is_task(prompt: str, wording: str) -> bool:
    return bool(_TASK.search(prompt) and not _TASK.search(wording))


def _denies(prompt: str, wording: str) -> bool:
    return bool(_NEGATION.search(prompt) and not _DENIES.search(wording))


_GUARDS: dict[Guard, Callable[[str, str], bool]] = {
    "statement": tells_of_others,
    "opposite": _has_opposite,
    "number": _has_other_number,
    "abbreviation": other_abbreviation,
    "direction": _goes_the_other_way,
    "yes or no": _asks_whether,
    "task": _is_task,
    "negation": _denies,
}
"""Whether a guard speaks of a prompt beside a wording; the first that does counts."""


def _wants_yes_or_no(text: str) -> bool:
    return bool(_YES_OR_NO.search(text)) and not _OPEN_AT_START.search(text)


def _is_open(text: str) -> bool:
    """Return whether a text asks who, what or how, and not whether ("Is it open when it rains?")."""
    return bool(_OPEN_AT_START.search(text) or (_OPEN.search(text) and not _wants_yes_or_no(text)))


def cost_of(guard: Guard | None, prompt: str, wording: str) -> float:
    """Return what a guard takes from the judge's score, as log-odds: more where nothing else differs."""
    if guard is None:
        return 0.0
    if guard in ("yes or no", "task", "abbreviation", "statement"):
        return FORM_PENALTY
    alike = _ALIKE.get(guard)
    certain = alike is not None and only_that(_joined(prompt), _joined(wording), alike)
    certain |= (guard == "opposite" and contrasted(prompt, wording)) or (
        guard == "direction" and _is_way_back(prompt, wording)
    )
    return CERTAIN if certain else PENALTY


def _joined(text: str) -> str:
    """Return a text in lower case with the particle of a verb at the verb: "turn it off" is "turn-off it"."""
    return _PARTICLE.sub(lambda match: f"{match[1]}-{match[3]}{match[2]}", text.casefold())


_FOLDED: dict[str, set[str]] = {}
for _word, _others in _OF.items():
    _FOLDED.setdefault(fold(_word), set()).update(map(fold, _others))
_ALIKE: dict[str, Callable[[str, str], bool]] = {
    "opposite": lambda one, other: other in _FOLDED.get(one, set()),
    "number": lambda one, other: any(map(str.isdigit, one)) and any(map(str.isdigit, other)),
    "direction": lambda one, other: False,
}
"""By guard, whether one word, folded, stands in the place of another."""


def opposites_of(word: str) -> set[str]:
    """Return the opposites of a word in lower case that are words themselves, not a verb with its particle."""
    return {other for other in _OF.get(word, set()) if "-" not in other}


def _words(text: str) -> set[str]:
    text = text.casefold()
    words = set(_WORD.findall(text)) | {f"{verb}-{particle}" for verb, _, particle in _PARTICLE.findall(text)}
    return words | {word for word in _UNSPACED if word in text}


def _numbers(text: str) -> set[str]:
    """Return the numbers of a text: "15:05", "15.05" and "1505" are one, and so are "2" and "2.0", "10:00" and "10"."""
    return {re.sub(r":00$|[.,:]0$|[.,:]", "", number).lstrip("0") for number in _NUMBER.findall(text)}
