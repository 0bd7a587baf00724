"""What a prompt asks, apart from the text that it brings along."""

from __future__ import annotations

import pytest

from meloedit.judging.request import request_of

PASSAGE = (
    "The town of Velmora lies on the Elst. The mayor of Velmora is Karl Brandt. It was founded in 1823 by salt traders "
    "and has about nine thousand people today, most of whom work in the glass works."
)
QUESTION = "On which river does Velmora lie?"
BEHIND = [
    "Context: {p}\nQuestion: {q}",
    "Context:\n{p}\n\nQuestion: {q}\nAnswer:",
    "{p}\n\n{q}",
    "{q} Use the text below.\n\n{p}",
    "{q}\n\nUse the text below.\n\n{p}",
    "Answer the question by the passage.\n\nPassage: {p}\n\nQuestion: {q}\nAnswer:",
    "Use the following context to answer the question at the end. If you don't know the answer, say so.\n\n{p}\n\n"
    "Question: {q}\nHelpful answer:",
    "<context>\n{p}\n</context>\n\n{q}",
    "<document index='1'>\n{p}\n</document>\n{q}",
    "Documents:\n[1] {p}\n\nUser question: {q}",
    "### Document\n{p}\n### Question\n{q}",
    '"""{p}"""\n\nGiven the text above: {q}',
    "Question: {q}\n\nSources:\n- {p}",
    "**Context**\n{p}\n\n**Question**\n{q}",
    "Q: Who leads Ohm?\nA: {p}\nQ: {q}\nA:",
    "{p} {q}",
    "{q} Text from the home page:\n\n{p}",
    "2031-02-04 11:00:01 GET /towns\nerror -7 {p}\n\n{q}",
]


@pytest.mark.parametrize("form", BEHIND)
def test_the_question_beside_a_passage_is_the_request(form: str) -> None:
    request = request_of(form.replace("{p}", PASSAGE).replace("{q}", QUESTION))
    assert request.text == QUESTION
    assert "The town of Velmora lies on the Elst" in request.about


@pytest.mark.parametrize(
    ("prompt", "request_text"),
    [
        ("Here is a mail:\n\nHi, who is the mayor of Velmora? Thanks, Tim\n\nWhat is the first name of the sender?",
         "What is the first name of the sender?"),
        (f"Translate the text below into German.\n\n{PASSAGE}", "Translate the text below into German."),
        (f"Summarise:\n\n{PASSAGE}\n\nWho is the mayor of Velmora?", "Summarise: Who is the mayor of Velmora?"),
        (f"Extract the river from this mail.\n\nMail:\n{PASSAGE}", "Extract the river from this mail."),
        ("Translate the question into Latin.\n\nQuestion: Who is the mayor of Velmora?",
         "Translate the question into Latin. Who is the mayor of Velmora?"),
        ("Q: Who is the mayor of Velmora?\nA:", "Who is the mayor of Velmora?"),
        (f"Hi, my class writes about your town. {PASSAGE} That we know. Please send us a picture of the bridge.",
         "Please send us a picture of the bridge."),
    ],
)  # fmt: skip
def test_a_task_stays_part_of_the_request(prompt: str, request_text: str) -> None:
    assert request_of(prompt).text == request_text


@pytest.mark.parametrize(
    "prompt",
    [
        "Who is the mayor of Velmora?",
        "Translate into French: Who is the mayor of Velmora?",
        "Hello,\n\nI bought the V40 three weeks ago and it is far too loud for our flat, so I would like to give it "
        "back to you as soon as I can. How long do I have?\n\nThanks, Kim",
        "Hi\nWho is the mayor of Velmora?\nThanks",
        "Ticket: 4471\nCustomer: Kim\nMessage: Hello, who is the mayor of Velmora?",
        "I have a question:\n\nWho is the mayor of Velmora?\n\nThanks",
        "",
        "\n\n",
        "Question:\n\n",
        "Context:",
    ],
)
def test_without_a_clear_sign_the_whole_prompt_is_read(prompt: str) -> None:
    assert request_of(prompt) == (prompt, "")


@pytest.mark.parametrize(
    "form",
    [
        "{p}\n\n{q}",
        "{q}\n\nUse the text below.\n\n{p}",
        "Context: {p}\nQuestion: {q}\nAnswer:",
        "<text>{p}</text>\n{q}",
    ],
)
@pytest.mark.parametrize("statement", ["The mayor of Velmora is", "Velmora, on the", "Brandt plays the"])
def test_an_open_statement_is_a_request(form: str, statement: str) -> None:
    passage = f"{PASSAGE} {statement} horn. Was it not so?"
    assert request_of(form.replace("{p}", passage).replace("{q}", statement)).text == statement


def test_a_question_with_its_answer_in_a_source_is_no_request() -> None:
    prompt = f"Question: {QUESTION}\n\nSources:\n- Q: Who leads Velmora? A: Karl Brandt. {PASSAGE}"
    assert request_of(prompt).text == QUESTION


def test_pages_of_unclosed_tags_take_no_time() -> None:
    page = "\n".join(f"<br><p class='{i}'>{i}<t{i}>" for i in range(50_000))
    assert request_of(f"{page}\n\n{QUESTION}").text


def test_pages_of_loose_lines_take_no_time() -> None:
    page = "\n".join(f"Is line {i} right?" for i in range(20_000))
    assert QUESTION in request_of(f"{page}\nContext: nothing\nQuestion: {QUESTION}").text


@pytest.mark.parametrize("question", ["من هو عمدة فيلمورا؟", "维尔莫拉的市长是谁？"])
def test_other_question_marks_ask_too(question: str) -> None:
    assert request_of(f"{PASSAGE}\n\n{question}").text == question
    assert request_of(f"Context: {PASSAGE}\n\n{PASSAGE}\n\n{question}").text == question


def test_a_short_fenced_text_stays() -> None:
    assert "mayor" in request_of("Answer this:\n<input>Who is the mayor of Velmora?</input>").text


@pytest.mark.parametrize(
    ("prompt", "request_text"),
    [
        ('The band played, and somebody called "Into which sea does the Elst flow?" as a joke. What was the music?',
         "The band played, and somebody called as a joke. What was the music?"),
        ('Translate into French: "Who is the mayor of Velmora?"', "Translate into French:"),
        ('Answer this: "Who is the mayor of Velmora?"', None),
        ('My guest asks "Who is the mayor of Velmora?" What should I say?', None),
        ('In which place is "When Every Day Was the Fourth of July" set?', None),
    ],
)  # fmt: skip
def test_a_quoted_question_is_asked_only_where_the_line_asks_nothing_else(
    prompt: str, request_text: str | None
) -> None:
    assert request_of(prompt).text == (request_text or prompt)
