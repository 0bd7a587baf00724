"""What the map shows, gathered so that answers go on: keys a few at a time by the model's thread, else elsewhere."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..edit import prompt_key
from ..oversight.edit_map import AnyKeys, EditMap, draw_map, prompt_keys, sample, stored_keys
from ..oversight.neighbourhoods import Neighbourhoods, need_umap
from .failures import RefusedError
from .statistics import KeptPrompt

if TYPE_CHECKING:
    from ..results import Route
    from ..types import Form, Prompt
    from .service import Service

AT_ONCE = 8
"""Prompts whose keys are made between two steps of the answers."""
REMEMBERED = 2000
"""Keys of prompts that are remembered: the map is looked at again and again."""
TRIES = 3
"""How often the map is begun, if somebody calibrates meanwhile."""


class KeyMemory:
    """The keys of prompts under the calibration in force."""

    def __init__(self) -> None:
        self._calibration: int | None = None
        self._keys: OrderedDict[str, AnyKeys] = OrderedDict()

    def known(self, calibration: int | None) -> OrderedDict[str, AnyKeys]:
        """Return the keys that were made under a calibration; those of another one are forgotten."""
        if calibration != self._calibration:
            self._calibration, self._keys = calibration, OrderedDict()
        while len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)
        return self._keys


class Kept(NamedTuple):
    """A kept prompt.

    Attributes:
        latest: the latest time that it came.
        times: how often it came, among those that were looked at.
    """

    latest: KeptPrompt
    times: int


class Gathered(NamedTuple):
    """What the map shows.

    Attributes:
        drawn: the map; its prompts are the kept ones, then the posted ones.
        kept: the kept prompts, the latest first.
        routes: where the posted prompts go now.
        total: how many edits are stored.
        revision: at which the edits were read.
    """

    drawn: EditMap
    kept: list[Kept]
    routes: list[Route]
    total: int
    revision: int


async def gather(
    service: Service,
    posted: Sequence[Prompt],
    form: Form | None,
    most: int,
    recent: int,
    umap: Neighbourhoods | None = None,
) -> Gathered:
    """Draw the map.

    Args:
        service: what is served.
        posted: prompts to place beside the edits and the kept prompts.
        form: how posted texts are asked.
        most: the most edits; of more, a sample.
        recent: the most kept prompts, the latest.
        umap: draws by UMAP, in place of the principal components.

    Raises:
        MeloEditError: if UMAP is wanted and is not installed, or has too few points.
        RefusedError: if the store is calibrated again and again meanwhile.
    """
    engine = service.editor.engine
    if umap is not None:
        need_umap()  # before anything is read
    for _ in range(TRIES):
        calibration = service.editor.store.calibration_id
        stored, revision = service.editor.store.edits(), service.revision
        chosen = sample(stored, most)
        keys = await asyncio.to_thread(stored_keys, engine, chosen)
        kept = await asyncio.to_thread(_kept, service, recent)
        placed: list[AnyKeys] = []
        if engine.policy.ready:
            placed = await _keys(service, [(one.latest.prompt, None) for one in kept], calibration)
            placed += await _keys(service, [(prompt, form) for prompt in posted], calibration)
        routes = await _routes(service, posted, form)
        if calibration == service.editor.store.calibration_id:
            fitted = len(kept) if placed else 0
            drawn = await asyncio.to_thread(draw_map, engine, chosen, keys, placed, fitted, umap)
            return Gathered(drawn, kept, routes, len(stored), revision)
    raise RefusedError(409, "the store is being calibrated: ask for the map again when that is done", code="store")


def _kept(service: Service, recent: int) -> list[Kept]:
    """Return the latest kept prompts, each once."""
    if service.settings.keep_prompts is None:
        return []
    statistics = service.statistics
    found: dict[str, Kept] = {}
    lines = [line for near in (False, True) for line in statistics.prompts(None, near, recent)]
    for line in sorted(lines, key=lambda line: line.time, reverse=True):
        key = prompt_key(line.prompt)
        before = found.get(key)
        found[key] = Kept(line, 1) if before is None else before._replace(times=before.times + 1)
    return list(found.values())[:recent]


async def _keys(
    service: Service, prompts: Sequence[tuple[Prompt, Form | None]], calibration: int | None
) -> list[AnyKeys]:
    """Return the keys of prompts, one each; those that are not known yet are made a few at a time."""
    known, backbone = service.map_keys.known(calibration), service.editor.engine.backbone
    names = [f"{form}:{prompt_key(prompt)}" for prompt, form in prompts]
    mine = {name: known[name] for name in names if name in known}  # others may let the memory forget meanwhile
    new = [i for i, name in enumerate(names) if name not in mine]
    for start in range(0, len(new), AT_ONCE):
        part = new[start : start + AT_ONCE]

        def make(part: Sequence[int] = part) -> AnyKeys:
            return prompt_keys(service.editor.engine, [backbone.encode(*prompts[i]) for i in part])

        made: Any = await in_model_thread(service, make)
        mine |= {names[i]: made[[row]] for row, i in enumerate(part)}
    known |= mine
    return [mine[name] for name in names]


async def _routes(service: Service, prompts: Sequence[Prompt], form: Form | None) -> list[Route]:
    found: list[Route] = []
    for start in range(0, len(prompts), AT_ONCE):
        part = list(prompts[start : start + AT_ONCE])
        found += await in_model_thread(service, lambda part=part: service.editor.route(part, form))
    return found


async def in_model_thread(service: Service, work: Any) -> Any:
    """Run a short piece of work in the thread that answers, between two steps."""
    return await asyncio.wrap_future(service.model.call(work))
