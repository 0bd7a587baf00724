"""Which of a prompt's keys decides, and the terms of its similarity to an edit."""

import pytest
import torch
from support.prompts import EDITS, LED_PROMPTS

from meloedit.keys.keys import Keys, KeyShape
from meloedit.keys.pooling import PooledStates
from meloedit.routing.choice import candidates_of
from meloedit.routing.index import Candidates, NeuronIndex
from meloedit.types import Asked


def test_the_nearest_of_a_prompts_keys_decides_and_what_one_keeps_quiet_stays_quiet():
    def best(*keys, threshold=1.0):
        owner, distance, quieted, near, by = map(torch.tensor, zip(*[(*key[1:], key[-1]) for key in keys], strict=True))
        pooled = PooledStates(
            torch.zeros(len(keys), 1), [Asked("")] * len(keys), [key[0] for key in keys], 1 + keys[-1][0]
        )
        candidates = Candidates(owner[:, None], distance[:, None], quieted, near, by)
        found = candidates_of(candidates, pooled, [threshold] * pooled.count)
        return [
            (one.nearest.record, one.nearest.distance, one.suppressed.record, one.suppressed.distance) for one in found
        ]

    inf = float("inf")
    assert best((0, 4, 0.9, -1, inf), (0, 7, 0.2, -1, inf)) == [(7, pytest.approx(0.2), -1, inf)]
    assert best((0, 4, 0.9, 7, 0.5), (0, 7, 0.2, -1, inf))[0][0] == 4  # 7 is quiet in the whole prompt
    assert best((0, 4, 0.9, 7, 1.5), (0, 7, 0.2, -1, inf))[0][0] == 7  # but not where it was out of scope anyway
    assert [row[0] for row in best((0, 4, 0.9, -1, inf), (1, 5, 0.8, -1, inf), (1, 6, 0.3, -1, inf))] == [4, 6]


def test_a_calibration_prompt_counts_by_its_nearest_key():
    index = NeuronIndex(KeyShape(2))
    index.add(1, Keys.of_content(torch.tensor([[1.0, 0.0]])))
    keys = Keys.of_content(torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [0.28, 0.96]]))
    index.set_scope(keys, false_activation=0.5, min_similarity=-1.0, prompt_of=torch.tensor([0, 0, 1, 2]))
    assert index.similarity == pytest.approx(0.28)  # of 0.8, 0.0 and 0.28 the second
    index.set_scope(keys, false_activation=0.5, min_similarity=-1.0)
    assert index.similarity == pytest.approx(0.6)  # the third of four


def test_evidence_says_what_a_similarity_is_made_of(make_editor):
    editor = make_editor(edits=EDITS[:3])
    own, other = editor.evidence([EDITS[0].prompt, LED_PROMPTS[1]])
    assert own[:3] == pytest.approx((1, 1, 1), abs=1e-4)
    assert sum(share for share, heard in own.names.values() if heard) == pytest.approx(1)
    assert sum(share for share, heard in other.names.values() if heard) == pytest.approx(other.entity_overlap, abs=1e-4)
    for prompt, found in ((EDITS[0].prompt, own), (LED_PROMPTS[1], other)):
        similarity = (found.content + 2 * found.entity_overlap * (1 + found.relation)) / 5
        assert similarity == pytest.approx(1 - editor.route(prompt)[0].distance ** 2 / 2, abs=1e-4)
    editor.remove(["book", "capital", "legs"])
    assert editor.evidence(LED_PROMPTS[:1]) == [None]
    editor.unload()
