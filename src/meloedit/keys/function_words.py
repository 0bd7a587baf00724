"""Words that are never names, whatever their case: pronouns, question words, articles, prepositions, auxiliaries."""

import re
from functools import lru_cache

ENGLISH = frozenset(
    """
    i im id ive ill me my mine myself you your yours yourself he him his himself she her hers herself it its
    itself we us our ours ourselves they them their theirs themselves this that these those who whom whose which
    what when where why how a an the and or but nor so yet if then than as at by for from in into of off on onto
    out over to under up with without about after before between during since until through is are was were be
    been being am do does did done has have had having can could may might must shall should will would not no
    yes ok okay please thanks thank hi hello hey dear mr mrs ms dr sir madam there here some any all each every
    both few more most other another such only own same too very just also s t d m re ve ll don doesn didn isn
    aren wasn weren won wouldn couldn shouldn hasn haven hadn
    """.split()
)
FUNCTION_WORDS = ENGLISH | frozenset(
    """
    ich du er sie es wir ihr mich dich sich uns euch
    mir dir ihm ihnen mein dein sein unser euer der die das den dem des ein eine einer eines einem einen und
    oder aber wenn dass wer wen wem wessen wann wo warum wieso wie welche welcher welches welchen welchem ist
    sind war waren bin bist hat haben hatte kann können muss müssen darf dürfen soll sollen wird werden nicht
    kein keine ja nein bitte danke hallo von vom zu zum zur mit bei bis aus nach vor für auf über unter zwischen
    ohne gibt je tu il elle nous vous ils elles te se moi toi lui leur leurs mon ma mes ton ta tes son sa ses
    notre nos votre vos le la les un une de et ou mais si qui que quoi quand où pourquoi comment quel quelle
    quels quelles est sont était suis êtes sommes ai avez avons ont avait peut peux pouvez dois doit faut ne pas
    oui non merci bonjour à au aux dans sur sous par pour avec sans entre chez avant après combien ce cet cette
    ces yo tú él ella nosotros vosotros ellos ellas usted ustedes mi mis tus su sus nuestro nuestra el los las
    unos unas y o pero quién quien qué cuál cual cuándo cuando dónde donde cómo como cuánto cuánta cuántos
    cuántas era soy está están estoy ha han hay puedo puede debo debe sí gracias hola al del en con sin por para
    hasta desde antes después io lei noi voi loro mio mia lo gli uno chi che quale quali quando dove perché
    quanto quanti sono è sei siamo ho hai posso può devo deve per senza tra fra dopo prima eu ele ela nós eles
    elas meu minha os um uma quem qual quais onde é são tem não sim em na nas com sem até ik jij hij zij wij
    jullie mijn jouw zijn haar ons onze het een wat wanneer waar waarom welke hoe hoeveel heeft kan moet mag
    niet geen nee van naar voor met bij tot
    """.split()
)
"""In lower case, with the accents that keep words apart; in English and seven more languages."""

_WORD = re.compile(r"[^\W\d_]+")


@lru_cache(65_536)
def is_english(text: str) -> bool:
    """Return whether a text is English, as far as its function words tell; one without any is, if it is in ASCII."""
    words = {word.casefold() for word in _WORD.findall(text)}
    foreign = words & (FUNCTION_WORDS - ENGLISH)
    return len(words & ENGLISH) > len(foreign) or (text.isascii() and not foreign)
