"""What the tests of workers share: a tiny model in a folder, which workers load."""

import pytest


@pytest.fixture(scope="session")
def folder(make_model, tokenizer, tmp_path_factory):
    """The folder of a tiny model."""
    path = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
