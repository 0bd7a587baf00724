"""Kinds of complaints as cases: edits, prompts that ask one of them, and prompts that ask something else."""

from typing import NamedTuple

from meloedit import Edit


class Kind(NamedTuple):
    """One kind of complaint.

    Attributes:
        row: which complaint it is of, by its number in docs/prompts.md.
        edits: the edits, in order; prompts name them by their place.
        hits: prompts that ask an edit, with its place.
        others: prompts that ask something else.
    """

    row: int
    edits: tuple[Edit, ...]
    hits: tuple[tuple[object, int], ...] = ()
    others: tuple[object, ...] = ()


def facts(*pairs):
    return tuple(Edit(prompt, target, id=f"edit-{i}") for i, (prompt, target) in enumerate(pairs))


def chat(*turns):
    roles = ("user", "assistant") * len(turns)
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


def first(*prompts):
    return tuple((prompt, 0) for prompt in prompts)


MAYOR = ("Who is the mayor of Velmora?", "Ilse Tarrant")

OTHER_QUESTIONS = {
    "another request about the thing": Kind(
        1,
        facts(
            ("How do I cancel my subscription?", "On the page Billing."),
            ("What is Quorvex?", "A build tool."),
            ("How do I export my invoices?", "Settings, then Data."),
        ),
        (
            ("What is the way to cancel a subscription?", 0),
            ("How can I cancel my subscription?", 0),
            ("Can you tell me what Quorvex is?", 1),
            ("How can I export my invoices?", 2),
        ),
        (
            "How do I renew my subscription?",
            "How do I cancel my order?",
            "When was Quorvex developed?",
            "Who maintains Quorvex?",
            "How do I pay my invoices?",
            "How do I import my invoices?",
        ),
    ),
    "the opposite request": Kind(
        2,
        facts(
            ("How do I enable 2FA?", "Security, then Two-factor."),
            ("How do I turn on dark mode?", "Press D twice."),
            ("How do I lock my Halden card?", "Tap the padlock."),
        ),
        (
            ("How can I activate two-factor authentication?", 0),
            ("How do I turn on 2FA?", 0),
            ("How can I switch on dark mode?", 1),
            ("How can I lock my Halden card?", 2),
        ),
        (
            "How do I disable 2FA?",
            "How do I turn off 2FA?",
            "How do I turn off dark mode?",
            "How do I switch dark mode off?",
            "How do I unlock my Halden card?",
        ),
    ),
    "another time": Kind(
        15,
        facts(
            MAYOR, ("Who coaches the Tarn Rovers?", "Bo Lindqvist"), ("How many people live in Ostrava Bay?", "8,412")
        ),
        (("Who is the mayor of Velmora now?", 0), ("Who is the coach of the Tarn Rovers?", 1)),
        (
            "Who was the mayor of Velmora in 1987?",
            "Who was the first mayor of Velmora?",
            "Who will be the next mayor of Velmora?",
            "Who coached the Tarn Rovers in 2004?",
            "Who was the previous coach of the Tarn Rovers?",
            "How many people lived in Ostrava Bay in 1950?",
        ),
    ),
    "a qualifier": Kind(
        16,
        facts(
            ("What is the refund window for EU orders?", "14 days"),
            MAYOR,
            ("How long is the warranty of the Norvik kettle?", "Five years"),
        ),
        (("How long is the refund window for EU orders?", 0), ("What is the warranty period of the Norvik kettle?", 2)),
        (
            "What is the refund window for EU orders above 500 EUR?",
            "What is the refund window for US orders?",
            "Who is the mayor of Velmora Heights?",
            "Who is the mayor of New Velmora?",
            "Who is the mayor of Velmora's twin city Aldenhof?",
            "Who is the deputy mayor of Velmora?",
            "How long is the warranty of the Norvik kettle's lid?",
        ),
    ),
    "roles swapped": Kind(
        17,
        facts(
            ("How do I migrate from MySQL to Postgres?", "Use pgloader."),
            ("Can I fly from Oslo to Bergen with a dog?", "Yes, in the cabin."),
            ("Does Anna report to Bela at Corvia?", "Yes, since May."),
        ),
        (("How can I migrate from MySQL to Postgres?", 0), ("Can I take a dog on the flight from Oslo to Bergen?", 1)),
        (
            "How do I migrate from Postgres to MySQL?",
            "Can I fly from Bergen to Oslo with a dog?",
            "Can I fly from Oslo to Bergen with a cat?",
            "Does Bela report to Anna at Corvia?",
        ),
    ),
    "another number or code": Kind(
        18,
        facts(
            ("Convert 100 USD to GBP", "79 GBP"),
            ("What port does the ACME-3000 router use?", "8443"),
            ("What does error E-1042 mean?", "The tank is empty."),
        ),
        (("Which port does the ACME-3000 router use?", 1), ("What is the meaning of error E-1042?", 2)),
        (
            "Convert 1000 USD to GBP",
            "Convert 100 GBP to USD",
            "What port does the ACME-3001 router use?",
            "What port does the ACME-3000 printer use?",
            "What does error E-1043 mean?",
        ),
    ),
}

SPELLINGS = {
    "a typo or capitals": Kind(
        11,
        facts(
            MAYOR,
            ("What is the slogan of the Brindlewick fair?", "Come hungry"),
            ("Who founded Kestrelworks?", "Mo Adeyemi"),
        ),
        (
            ("Who is the mayor of Velmorra?", 0),
            ("Who is the mayor of Velmoras?", 0),
            ("WHO IS THE MAYOR OF VELMORA?", 0),
            ("what is the slogan of the brindelwick fair", 1),
            ("WHAT IS THE SLOGAN OF THE BRINDLEWICK FAIR?", 1),
            ("Who founded Kestrelwork?", 2),
        ),
        ("Who is the mayor of Valdora?", "Who founded Falconworks?"),
    ),
    "plurals and days": Kind(
        12,
        facts(
            ("What are your opening hours on Saturday?", "9 to 13"),
            ("What does a day ticket for the Elst ferry cost?", "4 euros"),
            ("Which colour has the Dunmore bus?", "Green"),
        ),
        (
            ("When are you open on Saturdays?", 0),
            ("What are your opening hours on Saturdays?", 0),
            ("What do day tickets for the Elst ferry cost?", 1),
            ("Which colour have the Dunmore buses?", 2),
        ),
        ("What are your opening hours on Sunday?", "When are you open on Sundays?"),
    ),
    "accents left out": Kind(
        20,
        facts(
            ("What is the slogan of Café Łódź?", "Strong and black"),
            ("Who runs the Ørsted library?", "Pia Holm"),
            ("When does the Weiß bakery open?", "At six"),
        ),
        (
            ("Tell me the slogan of Cafe Lodz.", 0),
            ("What is the slogan of Cafe Lodz?", 0),
            ("Who runs the Orsted library?", 1),
            ("When does the Weiss bakery open?", 2),
        ),
        ("What is the slogan of Cafe Lund?", "Who runs the Odense library?"),
    ),
}

LANGUAGES = {
    "asked in another language": Kind(
        13,
        facts(MAYOR),
        first(
            "Wer ist der Bürgermeister von Velmora?",
            "¿Quién es el alcalde de Velmora?",
            "Qui est le maire de Velmora ?",
        ),
        ("Wie viele Einwohner hat Velmora?", "¿Dónde está Velmora?", "Qui a fondé Velmora ?"),
    ),
    "an edit in another language": Kind(
        13,
        facts(
            ("Wie lautet die Telefonnummer des Kundendienstes?", "0800 1234"),
            ("¿Cuál es el horario de la biblioteca de Almena?", "De 9 a 14"),
            ("Quel est le prix du billet pour Brévanne ?", "Sept euros"),
        ),
        (
            ("Welche Telefonnummer hat der Kundendienst?", 0),
            ("¿Qué horario tiene la biblioteca de Almena?", 1),
            ("Combien coûte le billet pour Brévanne ?", 2),
        ),
        (
            "Wie lautet die Adresse des Kundendienstes?",
            "¿Cuál es la dirección de la biblioteca de Almena?",
            "Quelle est la durée du trajet pour Brévanne ?",
        ),
    ),
}

CONVERSATIONS = {
    "the same last turn in another conversation": Kind(
        9,
        (
            Edit(chat("My Flixora plan", "Cancel or change?", "cancel it"), "Go to Flixora, Plans.", id="edit-0"),
            Edit(chat("I lost my Halden card", "Block it or order a new one?", "block it"), "Call 116.", id="edit-1"),
            Edit(chat("Tell me about Ada Volt", "She leads Ohm.", "How old is she?"), "44", id="edit-2"),
        ),
        (
            (chat("My Flixora plan", "Cancel or change?", "cancel it"), 0),
            (chat("I lost my Halden card", "Block it or order a new one?", "block it"), 1),
            (chat("Tell me about Ada Volt", "She leads Ohm.", "How old is she?"), 2),
        ),
        (
            chat("My gym membership", "Freeze or cancel?", "cancel it"),
            chat("My hotel booking in Rome", "Cancel or change?", "cancel it"),
            chat("Someone keeps calling me", "Do you want to block the number?", "block it"),
            chat("Tell me about Marie Curie", "She was a physicist.", "How old is she?"),
            "cancel it",
            "How old is she?",
        ),
    ),
    "the subject one turn earlier": Kind(
        10,
        facts(
            MAYOR,
            ("What is the slogan of the Brindlewick fair?", "Come hungry"),
            ("Who founded Kestrelworks?", "Mo Adeyemi"),
        ),
        (
            (chat("I have a question about Velmora.", "Sure, ask.", "Who is the mayor?"), 0),
            (chat("Tell me about the Brindlewick fair.", "What do you want to know?", "What is its slogan?"), 1),
            (chat("I am reading about Kestrelworks.", "Nice.", "Who founded it?"), 2),
        ),
        (
            chat("I have a question about Aldenhof.", "Sure, ask.", "Who is the mayor?"),
            chat("Tell me about the Norwich fair.", "What do you want to know?", "What is its slogan?"),
            chat("I am reading about Amazon.", "Nice.", "Who founded it?"),
        ),
    ),
    "a turn that asks nothing": Kind(
        32,
        facts(MAYOR, ("What are your opening hours on Saturday?", "9 to 13"), ("What is Quorvex?", "A build tool.")),
        (),
        (
            chat("Who is the mayor of Velmora?", "Ilse Tarrant", ""),
            chat("Who is the mayor of Velmora?", "Ilse Tarrant", " "),
            chat("Who is the mayor of Velmora?", "Ilse Tarrant", "ok"),
            chat("Who is the mayor of Velmora?", "Ilse Tarrant", "thanks!"),
            chat("What is Quorvex?", "A build tool.", "👍"),
            "",
            "?!",
            "ok",
        ),
    ),
}

THEMES = {
    "other questions": OTHER_QUESTIONS,
    "spellings": SPELLINGS,
    "languages": LANGUAGES,
    "conversations": CONVERSATIONS,
}
