"""Recalibrate a store: other keys, other calibration prompts, or another scope with the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..callers.arguments import shown
from ..config import CANDIDATE_SIMILARITY, SCOPE_SETTINGS
from ..edit import check_asked, prompt_key, prompt_text
from ..errors import EditError
from ..routing.calibration import (
    JUDGE_NAME,
    Calibration,
    built_in_calibration,
    calibrate,
    check_rate,
)
from ..text import has_words
from ..types import Progress, Prompt

if TYPE_CHECKING:
    from ..config import MeloConfig
    from ..hooks.router import Router
    from ..routing.nearest import NearestPolicy
    from ..routing.policy import KeyTensors
    from ..store import Store


class Recalibration:
    """Makes a store's next calibration.

    Args:
        router: the model and its hooks.
        policy: the policy, with the calibration in force.
        store: the store, with the edits whose keys are computed again.
    """

    def __init__(self, router: Router, policy: NearestPolicy, store: Store) -> None:
        self._router, self._policy, self._store = router, policy, store

    def make(
        self, prompts: Sequence[Prompt] | None, origin: str, scope: Mapping[str, Any], progress: Progress | None
    ) -> tuple[Calibration, dict[str, KeyTensors] | None]:
        """Return a new calibration, and by id the keys that edits have under it; ``None``: those they have.

        Args:
            prompts: prompts that no edit should answer; ``None``: the package's own.
            origin: where they are from.
            scope: settings of the scope from now on. With such, and no prompts, keys and prompts stay as they are.
            progress: told how many prompts are done.
        """
        if self._router.backbone.documents and scope.get("judge", "none") != "none":
            raise EditError("judge: a classifier's documents are not judged: leave it out")
        present = self._policy.calibration
        stated = {} if present is None else {n: present.info[n] for n in SCOPE_SETTINGS if n in present.info}
        stated |= scope
        if "judge" in scope and "min_similarity" not in scope:  # what it means depends on whether a judge decides
            defaults = self._router.backbone.defaults
            judged = scope["judge"] != "none"
            stated["min_similarity"] = CANDIDATE_SIMILARITY if judged else defaults["min_similarity"]
        config = self._policy.scope_config(stated)
        if "judge" in stated:
            stated["judge"] = config.judge  # a file by its full path
        if prompts is None and scope and present is not None:
            check_rate(present.info["prompts"], config)
            calibration, keys = present, None
        else:
            calibration = self._of_prompts(prompts, origin, config, progress)
            edits = [stored.edit for stored in self._store.edits()]
            keys = dict(zip([edit.id for edit in edits], self._policy.keys_of(edits, calibration), strict=True))
        if "min_similarity" in scope and calibration.info.get("scope") == "near-exact":
            raise EditError(
                "min_similarity decides nothing while near-exact repeats of a document alone fire "
                "(document_similarity): give documents to calibrate on"
            )
        info = {**calibration.info, **stated, JUDGE_NAME: self._policy.judging.name_of(config.judge)}
        return replace(calibration, info={name: value for name, value in info.items() if value is not None}), keys

    def _of_prompts(
        self, prompts: Sequence[Prompt] | None, origin: str, config: MeloConfig, progress: Progress | None
    ) -> Calibration:
        if prompts is None:
            return built_in_calibration(self._router, config, progress)
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise EditError(f"prompts must be a list of prompts, not {shown(prompts)}")
        edited = {prompt_key(prompt) for stored in self._store.edits() for prompt in stored.edit.prompts}
        checked = [check_asked(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
        checked = [prompt for prompt in checked if prompt_key(prompt) not in edited]  # these should be answered
        if not self._router.backbone.documents:  # what has no words reaches no edit anyhow
            checked = [prompt for prompt in checked if has_words(prompt_text(prompt))]
        return calibrate(self._router, config, checked, origin, progress)
