"""The checks of the contract fail on methods that break it: each on one that breaks one thing."""

import pytest
import torch

from meloedit.errors import EditError, MeloEditError
from meloedit.methods import method_class, removal_of
from meloedit.methods.base import Method, Size
from meloedit.methods.settings import Settings
from meloedit.testing import checks, edits_of, tiny_model
from meloedit.testing.models import LABELS, OTHERS


class Bias(Method):
    """Adds a number to the logits of one token, for each edit; a subclass breaks one thing."""

    name = "bias"
    removes = True

    def _head(self):
        return self.model.get_output_embeddings()

    def _edit(self, edits):
        self._hooks = getattr(self, "_hooks", {})
        for edit in edits:
            token = self.examples([edit])[0].target[0]
            self._hooks[edit.id] = self._head().register_forward_hook(
                lambda module, args, output, token=token: output + torch.eye(output.shape[-1])[token]
            )

    def _remove(self, ids):
        for name in ids:
            self._hooks.pop(name).remove()

    def _reset(self):
        self._remove(list(getattr(self, "_hooks", {})))

    def size(self):
        return Size(len(self.edits), 4 * len(self.edits))

    def restore(self, noted, edits):
        self.reset()
        self.edit(edits)


def open_bias(**replaced):
    """Open a subclass of Bias with some of its methods replaced, on a tiny model of its own."""
    return type("Broken", (Bias,), replaced)(*tiny_model("llama"))


EDITS = edits_of("llama")


def test_a_method_that_keeps_the_contract_passes():
    checks.check_edits_and_way_back(open_bias(), EDITS, OTHERS)
    checks.check_goes_on(open_bias(), EDITS)
    checks.check_removal(open_bias(), EDITS[:1])
    checks.check_settings(Bias)


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"_edit": lambda self, edits: None}, "edits changed nothing"),
        ({"_reset": lambda self: None}, "does not bring the model back"),
        ({"size": lambda self: Size(0, 0)}, "zero after edits"),
        ({"size": lambda self: Size(1, 4)}, "not zero before the first edit"),
        ({"edit": lambda self, edits: self._edit(edits) or self.edits.update(x=edits[0])}, "not all edits are in"),
        ({"close": lambda self: None}, "does not give the model back unedited"),
    ],
)
def test_edits_and_the_way_back_are_checked(replaced, words):
    with pytest.raises(AssertionError, match=words):
        checks.check_edits_and_way_back(open_bias(**replaced), EDITS, OTHERS)


def test_prompts_that_no_edit_concerns_are_checked():
    with pytest.raises(AssertionError, match="no edit concerns is answered otherwise"):
        checks.check_edits_and_way_back(open_bias(), EDITS, OTHERS, scoped=True)


def test_checkpoints_are_checked():
    with pytest.raises(AssertionError, match="does not bring the checkpoint back"):
        checks.check_goes_on(open_bias(restore=Method.restore), EDITS)


def test_removal_is_checked():
    with pytest.raises(AssertionError, match="leaves a trace"):
        checks.check_removal(open_bias(_remove=lambda self, ids: None), EDITS[:1])
    with pytest.raises(AssertionError, match="raises no EditError"):
        checks.check_removal(open_bias(removes=False, _remove=lambda self, ids: None), EDITS[:1])
    with pytest.raises(AssertionError, match="the error says 'no'"):

        def refuse(self, ids):
            raise EditError("no")

        checks.check_removal(open_bias(removes=False, _remove=refuse), EDITS[:1])
    traced = open_bias(removes_exactly=False, _remove=lambda self, ids: None)
    checks.check_removal(traced, EDITS[:1])  # it does not say that nothing is left
    kinds = [removal_of(type(method)) for method in (traced, open_bias(), open_bias(removes=False))]
    assert kinds == ["approximate", "exact", "none"]


class Beside(Bias):
    """Raises the logits of an edit's own prompt, the more the more edits there are."""

    def _edit(self, edits):
        self._prompts = getattr(self, "_prompts", {})
        for edit in edits:
            self._prompts[edit.prompt] = len(self._prompts) + 1

    def _remove(self, ids):
        for name in ids:
            self._prompts.pop(self.edits[name].prompt)

    def _reset(self):
        self._prompts = {}

    def logits(self, prompts, targets):
        rows = super().logits(prompts, targets)
        return [row + getattr(self, "_prompts", {}).get(prompt, 0) for prompt, row in zip(prompts, rows, strict=True)]


def test_edits_that_were_made_beside_a_removed_one_are_no_exact_removal():
    method = Beside(*tiny_model("llama"))
    with pytest.raises(AssertionError, match="would be others if the removed one had never been made"):
        checks.check_removal(method, EDITS)
    method = type("Said", (Beside,), {"removes_exactly": False})(*tiny_model("llama"))
    checks.check_removal(method, EDITS)


def test_answers_routes_and_settings_are_checked():
    with pytest.raises(AssertionError, match="the edit's prompt is answered"):
        checks.check_answers(open_bias(), EDITS[0])
    with pytest.raises(AssertionError, match="not routed to its edit"):
        checks.check_batches(open_bias(), EDITS, OTHERS)
    with pytest.raises(AssertionError, match="unknown setting is not refused"):
        checks.check_settings(type("Any", (Bias,), {"read_settings": classmethod(lambda cls, given: Settings())}))


def test_a_tiny_model_is_the_same_each_time_and_of_a_known_family():
    (one, _), (two, _) = tiny_model("llama"), tiny_model("llama")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(MeloEditError, match="no tiny model of family 'gpt'; there are: llama, t5, bert"):
        tiny_model("gpt")
    assert method_class("none")(*tiny_model("bert")).answer(["Who?"])[0].text in LABELS
