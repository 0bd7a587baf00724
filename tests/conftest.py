"""Fixtures that several rooms share: tiny models, their tokenizers, and editors on them."""

import pytest
import torch
from support.paper_cases import KEYS
from support.prompts import EDITS, SETTINGS, source_edits
from support.tiny_models import CHATML, END, FAMILIES, INST, SOURCES, bpe, build, build_encoder, build_source
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from meloedit import Editor, MeloConfig
from meloedit.paper.config import PaperConfig

torch.set_num_threads(1)  # tiny matrices: a second thread costs more than it gives


def pytest_collection_modifyitems(items):
    """Order the files: in test_real.py one of two workers makes SmolLM2's files; then the long ones that read them."""
    real = {item.path for item in items if item.get_closest_marker("real")}
    others = list(dict.fromkeys(item.path for item in items if item.path not in real))
    beside = set(others[:3])  # what the other worker does meanwhile
    items.sort(key=lambda item: (item.path.name != "test_real.py", item.path not in beside, item.path not in real))


def pytest_terminal_summary(terminalreporter):
    """Say at the end of a run that the browser tests were left out: among thousands of tests nobody sees it else."""
    left = sum("no browser" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if left:
        terminalreporter.write_line(
            f"NOT RUN: {left} tests of the console in a browser; they need chromium", yellow=True
        )


@pytest.fixture(scope="session")
def make_tokenizer():
    """Make a tokenizer: ``template`` is ``chatml``, ``inst`` or None; ``bos`` puts <s> before raw text."""
    plain, with_bos = bpe().to_str(), bpe()
    with_bos.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])

    def make(template="chatml", bos=False):
        core = with_bos if bos else Tokenizer.from_str(plain)
        end = "</s>" if template == "inst" else "<|im_end|>"
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=end, pad_token=end)
        tokenizer.chat_template = {"chatml": CHATML, "inst": INST, None: None}[template]
        tokenizer.padding_side = "left"
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer):
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """Make a fresh model of a family; keyword arguments change its config."""

    def make(family="llama", **changes):
        return build(family, len(tokenizer), tokenizer.eos_token_id, **changes)

    return make


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory):
    """Calibrations are kept between the tests of a session, and never in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def make_editor(make_model, tokenizer):
    """Make an editor on a fresh tiny model with a quick calibration; keyword arguments change its settings."""

    def make(family="llama", edits=(), model=None, tokenizer=tokenizer, store=None, **settings):
        config = MeloConfig(**SETTINGS | settings)
        editor = Editor(model or make_model(family), tokenizer, config, store=store)
        if edits:
            reports = editor.edit(list(edits))
            assert all(report.holds for report in reports), reports
        return editor

    return make


def made_once(make):
    """Return a function that makes an editor for a family the first time, and a list of those it made."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = make(family)
        return made[family]

    return get, made.values()


@pytest.fixture(scope="session")
def editors(make_editor):
    """Editors that know EDITS, by family; shared by tests that leave them as they are.

    pytest makes a fixture with parameters anew whenever another parameter came in between.
    """
    get, made = made_once(lambda family: make_editor(family, EDITS))
    yield get
    for editor in made:
        editor.unload()


@pytest.fixture(scope="session", params=FAMILIES)
def edited(request, editors):
    """Each of ``editors``."""
    return editors(request.param)


@pytest.fixture(scope="session")
def llama(editors):
    """As ``edited``, for tests of which one family is enough."""
    return editors("llama")


@pytest.fixture(scope="session")
def make_source():
    """Make a fresh encoder-decoder or classifier and its tokenizer; keyword arguments change the model's config."""
    plain = bpe().to_str()

    def make(family, **changes):
        core = Tokenizer.from_str(plain)
        template = "$A </s>" if family in ("t5", "t5-gated") else "<s> $A </s>"
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 2), ("</s>", END)])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<|im_end|>"
        )
        return build_source(family, len(tokenizer), **changes), tokenizer

    return make


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """The folder of a tiny text encoder of random weights: texts of like words lie near each other."""
    core = Tokenizer.from_str(bpe().to_str())
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", END)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<|im_end|>"
    )
    folder = tmp_path_factory.mktemp("encoder")
    build_encoder(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def make_source_editor(make_source, make_editor):
    """Make an editor on a tiny encoder-decoder or classifier; keyword arguments change its settings."""

    def make(family, edits=(), model=None, **settings):
        own, tokenizer = make_source(family)
        return make_editor(edits=edits, model=model or own, tokenizer=tokenizer, **{"min_similarity": None} | settings)

    return make


@pytest.fixture(scope="session")
def source_editors(make_source_editor):
    """Editors that know their family's three edits, by family; shared by tests that leave them as they are."""
    get, made = made_once(lambda family: make_source_editor(family, source_edits(family)))
    yield get
    for editor in made:
        editor.unload()


@pytest.fixture(scope="session", params=SOURCES)
def sourced(request, source_editors):
    """Each of ``source_editors``."""
    return source_editors(request.param)


@pytest.fixture(scope="session")
def t5(source_editors):
    """As ``sourced``, for what concerns encoder-decoders alone."""
    return source_editors("t5-gated")


@pytest.fixture(scope="module")
def open_scope(make_editor):
    """Editors by family whose scope is as wide as a random model needs it."""
    get, made = made_once(lambda family: make_editor(family, EDITS, min_similarity=0.3, false_activation=0.2))
    yield get
    for editor in made:
        editor.unload()


@pytest.fixture(scope="session")
def make_paper(make_model, make_source, tokenizer):
    """Make an editor in paper mode on a fresh tiny model, two edits to a block; keyword arguments change settings."""

    def make(family, edits=(), model=None, store=None, **settings):
        own, tokens = (make_model("gpt2"), tokenizer) if family == "gpt2" else make_source(family)
        values = {"radius": 0.25, "edits_per_block": 2, "lr": 0.1, "key_layer": KEYS[family]} | settings
        editor = Editor(model or own, tokens, PaperConfig(**values), store=store)
        if edits:
            editor.edit(list(edits))
        return editor

    return make
