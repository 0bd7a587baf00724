"""What an editing method must do, one function each: a check raises AssertionError with the reason.

A check takes a method on an unedited model and the edits to make; it leaves edits behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..backbones.batch import Example
from ..errors import EditError, MeloEditError

if TYPE_CHECKING:
    from torch import Tensor

    from ..edit import Edit
    from ..methods.base import Method


def texts_of(edits: Sequence[Edit]) -> list[str]:
    """Return the prompts of edits as texts."""
    return [str(edit.prompt) for edit in edits]


def logits_of(method: Method, prompts: Sequence[str]) -> Tensor:
    """Return the logits (prompts, 2, vocabulary) of two target tokens after each prompt; of classifiers a label's."""
    return torch.stack([rows[0] for rows in method.logits(prompts, [[1, 1]] * len(prompts))])


def make(method: Method, edits: Sequence[Edit]) -> None:
    """Make edits as an evaluation does: in parts of ``edits_per_call``."""
    for start in range(0, len(edits), method.settings.edits_per_call):
        method.edit(edits[start : start + method.settings.edits_per_call])


def check_edits_and_way_back(
    method: Method, edits: Sequence[Edit], others: Sequence[str], changes: bool = True, scoped: bool = False
) -> None:
    """Check that edits change answers, and that ``reset`` and ``close`` bring the model back, bit for bit.

    Args:
        method: the method.
        edits: the edits.
        others: prompts that no edit concerns.
        changes: whether edits change what the model says.
        scoped: whether prompts that no edit concerns are answered as by the unedited model, bit for bit.
    """
    prompts, count = [*texts_of(edits), *others], len(edits)
    before, answers = logits_of(method, prompts), [answer.text for answer in method.answer(prompts)]
    assert method.size().nbytes == 0, "size() is not zero before the first edit"
    make(method, edits)
    after = logits_of(method, prompts)
    assert torch.equal(before[:count], after[:count]) is not changes, "edits changed nothing, or what they should not"
    if changes:
        assert method.size().parameters > 0 and method.size().nbytes > 0, "size() is zero after edits"
        assert set(method.edits) == {edit.id for edit in edits}, "not all edits are in method.edits"
    if scoped or not changes:
        assert torch.equal(before[count:], after[count:]), "a prompt that no edit concerns is answered otherwise"
    method.reset()
    assert torch.equal(logits_of(method, prompts), before), "reset() does not bring the model back, bit for bit"
    assert method.edits == {}, "edits are left after reset()"
    assert [answer.text for answer in method.answer(prompts)] == answers, "answers differ after reset()"
    make(method, edits)
    method.close()
    rows = [method.backbone.encode(prompt) for prompt in prompts]
    with torch.no_grad():
        plain = method.backbone.target_logits([Example.of(row, [1, 1]) for row in rows])
    assert torch.equal(torch.stack([row[0] for row in plain]), before), "close() does not give the model back unedited"


def check_answers(method: Method, edit: Edit) -> None:
    """Check that what was edited is answered."""
    make(method, [edit])
    (answer,) = method.answer([edit.prompt])
    assert answer.text == edit.target, f"the edit's prompt is answered {answer.text!r}, not {edit.target!r}"


def check_goes_on(method: Method, edits: Sequence[Edit]) -> None:
    """Check that a restored checkpoint answers as when it was written, and that further edits end as without it."""
    size = method.settings.edits_per_call
    first, rest, prompts = edits[:size], edits[size:], texts_of(edits)
    make(method, first)
    noted, halfway = method.checkpoint(), logits_of(method, prompts)
    make(method, rest)
    whole = logits_of(method, prompts)
    method.restore(noted, first)
    assert torch.equal(logits_of(method, prompts), halfway), "restore() does not bring the checkpoint back, bit for bit"
    make(method, rest)
    assert torch.equal(logits_of(method, prompts), whole), "edits after restore() end otherwise than without it"
    assert list(method.edits) == [edit.id for edit in edits], "method.edits differs after restore()"


def check_removal(method: Method, edits: Sequence[Edit]) -> None:
    """Check that an edit can be removed, without a trace if the method says so, or that removing it is refused."""
    if not method.removes:
        _check_refused(method, edits[0].id, f"method {method.name} cannot remove")
        return
    prompts = texts_of(edits)
    before = _logits_alone(method, prompts)
    _make_apart(method, edits)
    edited = _logits_alone(method, prompts)
    method.remove([edits[0].id])
    after = _logits_alone(method, prompts)
    assert edits[0].id not in method.edits, "a removed edit is still in method.edits"
    unknown = "no-such-edit"
    _check_refused(method, unknown, f"no edit '{unknown}'")
    if method.removes_exactly:
        assert torch.equal(after[0], before[0]), "a removed edit leaves a trace"
        assert torch.equal(after[1:], edited[1:]), "removing an edit changes others"
        method.reset()
        _make_apart(method, edits[1:])
        without = _logits_alone(method, prompts)
        assert torch.equal(after, without), "other edits would be others if the removed one had never been made"


def _make_apart(method: Method, edits: Sequence[Edit]) -> None:
    """Make edits one at a time: what is trained together rounds otherwise with another in the batch."""
    for edit in edits:
        method.edit([edit])


def _logits_alone(method: Method, prompts: Sequence[str]) -> Tensor:
    """Return ``logits_of`` of each prompt by itself: a method may split a batch by the edit that answers.

    Batches of other sizes round otherwise.
    """
    return torch.cat([logits_of(method, [prompt]) for prompt in prompts])


def _check_refused(method: Method, name: str, words: str) -> None:
    try:
        method.remove([name])
    except EditError as error:
        assert words in str(error), f"the error says {str(error)!r}, not {words!r}"
    else:
        raise AssertionError(f"remove([{name!r}]) raises no EditError")


def check_batches(method: Method, edits: Sequence[Edit], others: Sequence[str]) -> None:
    """Check that a batch is answered and routed as its prompts one by one, each edit's prompt to its edit."""
    make(method, edits)
    prompts = [*texts_of(edits), *others]
    together = [(answer.text, answer.route.edit if answer.route else None) for answer in method.answer(prompts)]
    alone = [
        (answer.text, answer.route.edit if answer.route else None)
        for prompt in prompts
        for answer in method.answer([prompt])
    ]
    assert together == alone, "a batch is answered otherwise than its prompts one by one"
    wanted = [edit.id for edit in edits] + [None] * len(others)
    assert [route for _, route in together] == wanted, "a prompt is not routed to its edit, or another one to any"


def check_settings(method: type[Method]) -> None:
    """Check that an unknown setting is refused, and named."""
    try:
        method.read_settings({"no_such_setting": 1})
    except MeloEditError as error:
        assert "'no_such_setting'" in str(error), f"the error does not name the setting: {error}"
    else:
        raise AssertionError("an unknown setting is not refused")
