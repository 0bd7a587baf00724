"""Settings written as NAME=VALUE."""

import pytest

from meloedit.errors import ModelError
from meloedit.settings import parse_setting, read_config


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("lr=0.1", ("lr", 0.1)),
        ("grace.eps=3", ("grace.eps", 3)),
        ('modules=["a.b", "c"]', ("modules", ["a.b", "c"])),
        ("expand=reference", ("expand", "reference")),
        ("name=a=b", ("name", "a=b")),
        ("name=", ("name", "")),
        ("seed=null", ("seed", None)),
        ("seed=None", ("seed", None)),
        ("on=True", ("on", True)),
        ("on=true", ("on", True)),
        ("on=False", ("on", False)),
    ],
)
def test_a_value_is_json_or_a_python_name_or_a_text(text, setting):
    assert parse_setting(text) == setting


def test_what_is_no_setting_is_refused_with_the_form_it_should_have():
    with pytest.raises(ModelError, match="^--set lr: give NAME=VALUE$"):
        parse_setting("lr")
    with pytest.raises(ModelError, match="^--set eps: give METHOD.NAME=VALUE$"):
        parse_setting("eps", "METHOD.NAME=VALUE")
    with pytest.raises(ModelError, match="^--set lr: the value is nested too deeply$"):
        parse_setting("lr=" + "[" * 10**5)


def test_a_configuration_from_options_and_settings():
    config = read_config({"layers": 2, "reach": None}, ["answer_positions=None", "train_with_lead_in=True"])
    assert config.layers == 2 and config.answer_positions is None and config.train_with_lead_in is True
    assert read_config({"rank": 16}, []).max_rank == 16 and read_config({"rank": 1}, []).max_rank == 8
    assert read_config({"rank": 2}, ["rank=4"]).rank == 4  # a setting goes before an option
