"""The contract of a method as a class of tests that other packages inherit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from ..errors import MeloEditError
from ..methods import method_class
from . import checks
from .models import FAMILIES, OTHERS, edits_of, tiny_model, training_edits

if TYPE_CHECKING:
    from ..methods.base import Method

Open = Callable[[str], "Method"]
"""Opens the method on a fresh tiny model of a family."""


class MethodContract:
    """Tests that a method must pass; a subclass names the method.

    Attributes:
        method: its name, as in ``meloedit eval --method NAME``.
        settings: settings that bring a tiny random model to an edit's target in a second or two.
        families: the families of models that it serves; the others of ``FAMILIES`` must be refused.
        answers: whether it brings a tiny random decoder-only model to a whole target. Methods that change too little of
            a model for that are tested for a change alone.
        scoped: whether prompts that no edit concerns are answered as by the unedited model, bit for bit.
    """

    method: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    families: ClassVar[tuple[str, ...]] = FAMILIES
    answers: ClassVar[bool] = True
    scoped: ClassVar[bool] = False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test once for each family that its argument names."""
        for argument, families in (
            ("family", self.families),
            ("unserved", [name for name in FAMILIES if name not in self.families]),
        ):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, families)

    @pytest.fixture
    def open_method(self, tmp_path: Path) -> Iterator[Open]:
        """Open the method on fresh tiny models, and close it at the end."""
        opened: list[Method] = []

        def open_it(family: str) -> Method:
            method = method_class(self.method)(*tiny_model(family), self.settings, tmp_path / family)
            method.fit(training_edits(family))
            method.prepare([])
            opened.append(method)
            return method

        yield open_it
        for method in opened:
            method.close()

    def test_edits_change_answers_and_the_model_comes_back(self, open_method: Open, family: str) -> None:
        """``edit`` changes answers; ``reset`` and ``close`` bring the model back, bit for bit."""
        checks.check_edits_and_way_back(open_method(family), edits_of(family), OTHERS, scoped=self.scoped)

    def test_what_was_edited_is_answered(self, open_method: Open) -> None:
        """The decoder-only model gives an edit's target."""
        if not self.answers or "llama" not in self.families:
            pytest.skip("the method changes too little of a random model, or serves no decoder-only one")
        checks.check_answers(open_method("llama"), edits_of("llama")[-1])

    def test_a_restored_checkpoint_goes_on(self, open_method: Open, family: str) -> None:
        """``restore`` brings back what ``checkpoint`` wrote, so that an interrupted evaluation can go on."""
        checks.check_goes_on(open_method(family), edits_of(family))

    def test_removal_is_as_stated(self, open_method: Open, family: str) -> None:
        """``remove`` leaves no trace if the method says so; if it cannot remove, it refuses."""
        checks.check_removal(open_method(family), edits_of(family))

    def test_a_batch_is_answered_as_its_prompts_one_by_one(self, open_method: Open, family: str) -> None:
        """Of a method that routes, a prompt's route does not depend on its neighbours in the batch."""
        if not method_class(self.method).routes:
            pytest.skip("the method does not route")
        checks.check_batches(open_method(family), edits_of(family), OTHERS)

    def test_an_unknown_setting_is_refused(self) -> None:
        """A setting that the method does not have is named in the error."""
        checks.check_settings(method_class(self.method))

    def test_a_family_that_it_does_not_serve_is_refused_in_one_line(self, open_method: Open, unserved: str) -> None:
        """A model that the method cannot edit is refused before any work."""
        with pytest.raises(MeloEditError) as raised:
            open_method(unserved)
        assert "\n" not in str(raised.value)
