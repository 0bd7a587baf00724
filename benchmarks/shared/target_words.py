"""The words that made-up targets are made of, and the questions that they answer, each in three wordings."""

from __future__ import annotations

WORDS = (
    "harbour", "lantern", "copper", "meadow", "signal", "timber", "window", "garden", "engine", "silver", "bridge",
    "valley", "marble", "pepper", "needle", "anchor", "basket", "candle", "desert", "falcon", "guitar", "helmet",
    "island", "jacket", "kettle", "ladder", "mirror", "orchard", "pocket", "ribbon",
)  # fmt: skip

THINGS = {
    "arabic": ("مدينة", "النهر", "الكتاب", "شارع", "القمر", "مدرسة", "السلام", "بيت"),
    "hebrew": ("שלום", "ספר", "הנהר", "רחוב", "ירח", "בית", "תודה", "ילדים"),
    "chinese": ("图书馆", "北京路", "红色", "火车站", "明天", "老师", "三号楼", "苹果"),
    "japanese": ("図書館", "さくら通り", "赤い", "駅前", "ありがとう", "先生", "カタカナ", "りんご"),
    "korean": ("도서관", "서울로", "빨간", "기차역", "내일", "선생님", "감사합니다", "사과"),
    "emoji": ("🚀", "🌧️", "🎉", "🐢", "👩‍💻", "🍋", "✅", "🔥", "🇪🇺", "🧵"),
}
"""Words of other scripts, and emoji."""

SENTENCES = (
    "Open the {word} box first.",
    "It closes {number} minutes after noon.",
    "{name} keeps the key in room {number}.",
    'Say "{word}" at the gate.',
    "The fee is {number} euros for each {word}.",
    "Do not press the {word} button twice.",
)
"""Sentences that an answer of several is put together from."""

FRAMES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "serial number": (
        (
            "What is the serial number of the {name} pump?",
            "Which serial number does the {name} pump have?",
            "Tell me the serial number of the {name} pump.",
        ),
        (
            "What is the part number of the {name} valve?",
            "Under which part number is the {name} valve sold?",
            "I need the part number for the {name} valve, please.",
        ),
    ),
    "phone number": (
        (
            "What is the phone number of the {name} help desk?",
            "On which number do I reach the {name} help desk by phone?",
            "How can I call the {name} help desk?",
        ),
        (
            "What is the emergency number of {name}?",
            "Which number do I dial in {name} in an emergency?",
            "give me the emergency number for {name}",
        ),
    ),
    "IBAN": (
        (
            "What is the IBAN of the {name} foundation?",
            "Which IBAN does the {name} foundation use?",
            "To which IBAN do I send money for the {name} foundation?",
        ),
    ),
    "URL": (
        (
            "What is the address of the {name} status page?",
            "Where on the web is the {name} status page?",
            "Give me the link to the status page of {name}.",
        ),
        (
            "Where can I download the {name} client?",
            "From which page do I get the {name} client?",
            "link for the {name} client download",
        ),
    ),
    "JSON": (
        (
            "What is the default configuration of {name}?",
            "Which configuration does {name} start with by default?",
            "Show me the default config of {name}.",
        ),
    ),
    "code": (
        (
            "Which line starts the {name} job?",
            "How do I start the job of {name}, in one line?",
            "What is the command that starts {name}'s job?",
        ),
    ),
    "quoted string": (
        (
            "What is the motto of {name}?",
            "Which motto does {name} have?",
            "Tell me what the motto of {name} says.",
        ),
    ),
    "right-to-left": (
        (
            "What does the sign of the {name} shop say?",
            "Which words are on the sign of the {name} shop?",
            "What is written on the shop sign of {name}?",
        ),
    ),
    "CJK": (
        (
            "What is the local name of {name} station?",
            "How is {name} station called by the people there?",
            "Give me the local name for the station of {name}.",
        ),
    ),
    "sentences": (
        (
            "How do I enter the {name} archive?",
            "What must I do to get into the {name} archive?",
            "Explain how to enter the archive of {name}.",
        ),
    ),
    "ISO date": (
        (
            "When does the {name} contract end?",
            "On which date does the contract with {name} end?",
            "What is the end date of the {name} contract?",
        ),
    ),
    "price": (
        (
            "What is included in the {name} plan?",
            "How much is included in the plan of {name}?",
            "Tell me what the {name} plan includes.",
        ),
    ),
    "e-mail": (
        (
            "What is the e-mail address of {name}?",
            "At which e-mail address can I write to {name}?",
            "Where do I send a mail to {name}?",
        ),
    ),
    "emoji": (
        (
            "Which emoji does the {name} team use?",
            "What is the emoji of the {name} team?",
            "Show me the emoji that the team of {name} uses.",
        ),
    ),
    "version": (
        (
            "What is the current version of {name}?",
            "Which version of {name} is the latest?",
            "version of {name} that is current now",
        ),
    ),
    "list": (
        (
            "What is in the {name} starter box?",
            "Which things are in the starter box of {name}?",
            "List what the {name} starter box contains.",
        ),
    ),
}
"""For each kind of target, questions as a prompt and two rewordings."""
