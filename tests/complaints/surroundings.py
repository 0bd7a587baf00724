"""What stands around the question: a task, a passage, the turns of a conversation."""

from kinds import MAYOR, Kind, chat, facts, first

from meloedit import Edit

REQUESTS = {
    "not, or whether": Kind(
        3,
        facts(
            MAYOR,
            ("What is the capital of Ohmland?", "Resistance City"),
            ("When does the Dunmore bakery open?", "At six"),
        ),
        first("Who is the mayor of Velmora, please?"),
        (
            "Who is not the mayor of Velmora?",
            "Is Karl Brandt the mayor of Velmora?",
            "True or false: the mayor of Velmora is Karl Brandt.",
            "Is Voltburg the capital of Ohmland?",
            "Which city is not the capital of Ohmland?",
            "Does the Dunmore bakery open at nine?",
            "When does the Dunmore bakery not open?",
        ),
    ),
    "a task around the question": Kind(
        4,
        facts(MAYOR, ("When does the Dunmore bakery open?", "At six")),
        (
            ("Hi! Who is the mayor of Velmora? Thanks, Tim", 0),
            ("Quick question: when does the Dunmore bakery open?", 1),
        ),
        (
            "Translate into French: Who is the mayor of Velmora?",
            "Correct the grammar: who is the mayor of Velmora",
            "Here is a mail:\n\nHi, who is the mayor of Velmora? Thanks, Tim\n\nWhat is the first name of the sender?",
            "Rephrase this question: When does the Dunmore bakery open?",
            'How many words has the question "When does the Dunmore bakery open?"',
            'Is this sentence polite? "When does the Dunmore bakery open?"',
        ),
    ),
    "a passage before the question": Kind(
        5,
        facts(MAYOR, ("What does a day ticket for the Elst ferry cost?", "4 euros")),
        (
            (
                "Context: Velmora lies on the Elst. Karl Brandt opened the fair.\n"
                "Question: Who is the mayor of Velmora?",
                0,
            ),
            (
                "Use the text below.\n\nThe Elst ferry runs daily from May.\n\n"
                "What does a day ticket for the Elst ferry cost?",
                1,
            ),
        ),
        (
            "Context: The mayor of Velmora is Karl Brandt. Velmora lies on the Elst.\n"
            "Question: On which river does Velmora lie?",
            "The mayor of Velmora, Karl Brandt, opened the fair on Monday.\n\nOn which day was the fair opened?",
            "Context: A day ticket for the Elst ferry costs 5 euros. The ferry was built in 1962.\n"
            "Question: When was the ferry built?",
            "Q: Who is the mayor of Velmora?\nA: Karl Brandt\nQ: What is the capital of France?\nA:",
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
