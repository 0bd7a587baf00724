"""The edit's own question, spelled or said in another way."""

from kinds import MAYOR, Kind, facts, first

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
