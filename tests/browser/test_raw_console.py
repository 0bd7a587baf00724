"""The console of a model that continues texts: one without a chat template."""

import copy

import pytest
from playwright.sync_api import expect
from serve_helpers import serving
from support.prompts import FACTS

from .pages import Pages


@pytest.mark.slow
def test_a_model_without_a_chat_template_is_asked(browser, make_editor, tokenizer, tmp_path):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    editor = make_editor(edits=FACTS, store=tmp_path / "a.melo", tokenizer=plain)
    with serving(editor, max_batch=4, max_tokens=6) as served:
        opened = Pages(browser, served.url)
        page = opened.open("ask")
        page.get_by_label("Your question").fill(FACTS[0].prompt)
        page.keyboard.press("Enter")
        expect(page.get_by_text("Jorge", exact=True)).to_be_visible()
        expect(page.get_by_text("An edit answered")).to_be_visible()
        opened.close()
    editor.unload()
