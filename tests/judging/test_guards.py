"""Guards speak where one side has the opposite, another number, or the other direction; not where both have both."""

import pytest

from meloedit.judging.guards import CERTAIN, cost_of, guard_of
from meloedit.judging.statements import completed_by_answer


@pytest.mark.parametrize(
    ("prompt", "wording", "guard"),
    [
        ("How do I disable roaming?", "How do I enable roaming?", "opposite"),
        ("how do i turn the alarm off", "How do I turn on the alarm?", "opposite"),
        ("Do I enable or disable roaming?", "How do I enable roaming?", None),
        ("Wie kann ich mich abmelden?", "Wie kann ich mich anmelden?", "opposite"),
        ("\u6700\u665a\u51e0\u70b9", "\u6700\u65e9\u51e0\u70b9", "opposite"),
        ("What is new in version 3?", "What is new in version 2?", "number"),
        ("What is new in version 2.0?", "What is new in version 2?", None),
        ("the 1505 train", "Where does the 15:05 train go?", None),
        ("Is 2 more than 3?", "Is it 2?", None),
        ("What is new?", "What is new in version 2?", None),
        ("How do I migrate from Postgres to MySQL?", "How do I migrate from MySQL to Postgres?", "direction"),
        ("Does Bela report to Anna at Corvia?", "Does Anna report to Bela at Corvia?", "direction"),
        ("Convert 100 GBP to USD", "Convert 100 USD to GBP", "direction"),
        ("Is Bergen or Oslo larger?", "Is Oslo or Bergen larger?", None),
        ("Who wrote in 2012 in GIIS?", "Who wrote in GIIS in 2012?", None),
        ("Volt Ada of Ohm", "Who is Ada Volt of Ohm?", None),
        ("Are you open at 10?", "Are you open at 10:00?", None),
        ("Norbank's fee for a domestic transfer", "What is Norbank's fee for a foreign transfer?", "opposite"),
        ("How do I leave the Foxglove Readers Club?", "How do I join the Foxglove Readers Club?", "opposite"),
        ("When was Osgar Minchin born?", "When did Osgar Minchin die?", "opposite"),
        ("Which animal is on the north gate?", "Which animal is on the south gate?", "opposite"),
        ("How much is a visitor parking permit in Aldhall?", "What does a resident parking permit cost?", "opposite"),
        ("What do residents and visitors pay?", "What do residents pay?", None),
        ("What do existing customers pay for Northlink?", "What do new customers pay for Northlink?", "opposite"),
        ("What is the IBAN of Norbank?", "What is the BIC of Norbank?", "abbreviation"),
        ("what is the iban of norbank", "What is the BIC of Norbank?", "abbreviation"),
        ("What is the ICB of Norbank?", "What is the BIC of Norbank?", None),
        ("What is the bank code of Norbank?", "What is the BIC of Norbank?", None),
        ("Which BIC does Norbank have?", "What is the BIC of Norbank?", None),
        ("WHAT IS THE BIC OF NORBANK?", "What is the BIC of Norbank?", None),
        ("cn23 for a parcel", "What is form CN 23 for a parcel?", None),
        ("Moving from MySQL to Postgres", "How do I migrate from MySQL to Postgres?", None),
        ("Does the ferry run before Easter?", "Does the ferry run after Easter?", "opposite"),
        (
            "What is the deadline for a stall at Aldhall market?",
            "What is the fee for a stall at Aldhall market?",
            "opposite",
        ),
        (
            "fee stall Aldhall market, Sunday",
            "What is the fee for a stall at Aldhall market on a Saturday?",
            "opposite",
        ),
        ("When did the kiln open?", "When does the kiln open?", "opposite"),
        ("What is the market's stall fee?", "What is the fee for a stall at the market?", None),
        ("Is unpaid leave granted at Norbank?", "Is paid leave granted at Norbank?", "opposite"),
        ("Who is the lessee of Hollin Farm?", "Who is the lessor of Hollin Farm?", "opposite"),
        ("Which fees are excluded?", "Which fees are included?", "opposite"),
        ("bus brimford to aldhall", "Which bus goes from Aldhall to Brimford?", "direction"),
        ("bus aldhall to brimford", "Which bus goes from Aldhall to Brimford?", None),
        ("From when can I pay?", "By when do I have to pay?", "opposite"),
        ("May I park without a permit?", "May I park with a permit?", "opposite"),
        ("Is the pool free for pupils on Monday?", "On Tuesdays, do pupils swim for nothing?", "opposite"),
        ("Is the pool open at the weekend, on Monday or on Tuesday?", "Is the pool open on Tuesday?", None),
        ("Did Halpern Mills sue Torvane Foods?", "Did Torvane Foods sue Halpern Mills?", "direction"),
        ("Does a cold wall give heat to warm air?", "Does warm air give heat to a cold wall?", "direction"),
        ("depot to coast number of stops", "coast to depot number of stops", "direction"),
        ("Without a jacket, may I go out?", "May I go out without a jacket?", None),
        ("hours library summer", "summer library hours", None),
        ("In 2014 in Oslo, who spoke?", "In Oslo in 2014, who spoke?", None),
        ("In summer the market closes when?", "When the market closes in summer?", None),
        ("Is 2 equal to the sum?", "Is the sum equal to 2?", None),
        ("", "", None),
    ],
)
def test_a_guard_looks_at_both_sides(prompt, wording, guard):
    assert guard_of(prompt, wording) == guard


@pytest.mark.parametrize(
    ("prompt", "wording", "certain"),
    [
        ("Convert 1000 USD to GBP", "Convert 100 USD to GBP", True),
        ("How can I unlock my Halden card?", "How do I lock my Halden card?", True),
        ("please switch dark mode off", "How do I switch on dark mode?", True),
        ("How do I switch dark mode off?", "How do I turn on dark mode?", True),
        ("How do I turn off 2FA?", "How do I enable 2FA?", True),
        ("How do I turn on 2FA?", "How do I enable 2FA?", False),
        ("How can I migrate from Postgres to MySQL?", "How do I migrate from MySQL to Postgres?", True),
        ("Does Bela report to Anna?", "Does Anna report to Bela?", True),
        ("How do I disable the alarm at night?", "How do I enable the alarm?", False),
        ("Which train leaves at 9?", "When does the train at 8 go?", False),
        ("How do I lock my Halden card?", "How do I lock my Halden card?", False),
    ],
)
def test_a_guard_is_certain_where_nothing_else_differs(prompt, wording, certain):
    guard = guard_of(prompt, wording)
    assert (cost_of(guard, prompt, wording) == CERTAIN) is certain
    assert (cost_of(guard, prompt, wording) > 0) is (guard is not None)


_NEWS = (
    "An overtaxed bullpen forced the club into a slew of moves on Wednesday, as they sent John Reyes to the minors "
    "to make room for the relief pitcher Walter Axford. Right-hander Scott Oberg"
)


@pytest.mark.parametrize(
    ("prompt", "wording", "guard"),
    [
        (_NEWS, "At what location did John Walter Scott die?", "statement"),
        (_NEWS, "In which league does Scott Oberg play?", None),
        (_NEWS + " throws with which hand?", "At what location did John Walter Scott die?", None),
        ("Please tell me. " + _NEWS, "At what location did John Walter Scott die?", None),
        (_NEWS + " was born in", "At what location did John Walter Scott die?", "statement"),
        (_NEWS + " was born in", "Scott Oberg was born in", None),
        (_NEWS + " was born in", "Where was Scott Oberg born?", None),
        (_NEWS, "Who directs Move of the Right?", "statement"),
        (_NEWS, "What is Scott Oberg's team?", None),
        (_NEWS, "what happens if the locker is full", None),
        (_NEWS[:60], "At what location did John Walter Scott die?", None),
    ],
)
def test_a_long_text_that_asks_nothing_must_have_a_name_of_the_edit(prompt, wording, guard):
    assert guard_of(prompt, wording) == guard


@pytest.mark.parametrize(
    ("prompt", "guard"),
    [
        ("Is Karl Brandt the mayor of Velmora?", "yes or no"),
        ("True or false: the mayor of Velmora is Karl Brandt.", "yes or no"),
        ("Must the mayor of Velmora be Karl Brandt?", "yes or no"),
        ("Richtig oder falsch: Karl Brandt ist Bürgermeister.", "yes or no"),
        ("Translate: the mayor of Velmora", "task"),
        ("Correct this sentence: mayor of velmora", "task"),
        ("Who is not the mayor of Velmora?", "negation"),
        ("Who can't be the mayor of Velmora?", "negation"),
        ("Who apart from the mayor of Velmora signs?", "negation"),
        ("Hi, who is not mayor of Velmora?", "negation"),
        ("Was Karl Brandt the mayor of Velmora?", "yes or no"),
        ("Did Karl Brandt comment as the mayor of Velmora?", "yes or no"),
        ("Was ist der Name des Bürgermeisters von Velmora?", None),
        ("Name the mayor of Velmora", None),
        ("What do I say if the mayor of Velmora is not there?", None),
        ("Can you tell me who the mayor of Velmora is?", None),
        ("Do you know who is the mayor of Velmora?", None),
        ("Could you give me the name of the mayor of Velmora?", None),
        ("Is it possible to learn the mayor's name?", None),
        ("Is there a mayor's name on file?", None),
        ("I don't know who the mayor of Velmora is", None),
    ],
)
def test_another_form_of_answer_is_another_question(prompt: str, guard: str | None) -> None:
    assert guard_of(prompt, "Who is the mayor of Velmora?") == guard


def test_a_wording_of_the_same_form_is_not_guarded() -> None:
    assert guard_of("Are dogs allowed in Velmora hall?", "Is my dog allowed in Velmora hall?") is None
    assert guard_of("Translate mayor into French", "What is mayor translated into French?") is None
    assert guard_of("Does renting a scooter include a helmet?", "Is a helmet included when I rent a scooter?") is None
    assert guard_of("Why does my Halden phone not charge?", "Why won't my Halden phone charge?") is None
    assert guard_of("Was kostet das Ticket im Monat?", "Wie viel kostet das Monatsticket?") is None


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("It rained. Java coffee is named after", "Java coffee is named after"),
        ("Category:Rivers\nVevo belongs to", "Vevo belongs to"),
        ("Java coffee is named after", ""),
        ("It rained. He died in", ""),
        ("It rained. The company is based in", ""),
        ("It rained. Where is Vevo based?", ""),
        ("   ", ""),
        ("", ""),
    ],
)
def test_the_last_sentence_that_an_answer_completes_stands_alone(text, last):
    assert completed_by_answer(text) == last


def test_the_way_back_is_certain():
    prompt, wording = "parcels marwick to hollin who", "Who delivers parcels from Hollin to Marwick?"
    assert cost_of(guard_of(prompt, wording), prompt, wording) == CERTAIN
