"""The map: edits, recent prompts and posted prompts in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query

from ...edit import prompt_list
from ...oversight.neighbourhoods import Neighbourhoods, has_umap
from ..mapping import Gathered, gather
from ..service import Service
from ..wire import map as wire
from ..wire.shared import errors, prompt_of
from .common import ServiceOf
from .edits import finite, form_of

if TYPE_CHECKING:
    from ...types import Prompt

router = APIRouter(prefix="/v1/store/map", responses=errors())

Most = Annotated[int, Query(ge=1, le=2000, description="The most edits; of more, a sample.")]
Recent = Annotated[int, Query(ge=0, le=500, description="The most kept prompts, the latest.")]

By = Annotated[
    wire.Projection,
    Query(description="How the map is drawn: by principal components, or by UMAP, which needs the extra umap."),
]


@router.get("")
async def read_map(service: ServiceOf, edits: Most = 500, recent: Recent = 200, projection: By = "pca") -> wire.MapBody:
    """Place edits and recent prompts in two dimensions, for people to look at; it decides nothing."""
    umap = _umap(service, projection)
    return _body(service, await gather(service, [], None, edits, recent, umap), [], projection)


@router.post("")
async def place_on_map(
    service: ServiceOf, body: wire.MapRequest, edits: Most = 500, recent: Recent = 200, projection: By = "pca"
) -> wire.MapBody:
    """Place prompts on the same map, beside the edits and the recent prompts; nothing is generated or kept."""
    prompts = prompt_list([prompt_of(prompt) for prompt in body.prompts])
    form = body.form or form_of(service)
    umap = _umap(service, projection)
    return _body(service, await gather(service, prompts, form, edits, recent, umap), prompts, projection)


def _umap(service: Service, projection: wire.Projection) -> Neighbourhoods | None:
    return service.umap if projection == "umap" else None


def _body(service: Service, found: Gathered, posted: list[Prompt], projection: wire.Projection) -> wire.MapBody:
    drawn = found.drawn
    return wire.MapBody(
        edits=[
            wire.MapEdit(
                id=one.stored.edit.id,
                prompt=one.stored.edit.prompt,
                target=one.stored.edit.target,
                enabled=one.stored.enabled,
                x=one.place[0],
                y=one.place[1],
                radius=one.radius,
                wordings=[wire.MapPlace(x=x, y=y) for x, y in one.wordings],
            )
            for one in drawn.edits
        ],
        total=found.total,
        prompts=list(_prompts(found, posted)),
        kept=service.settings.keep_prompts is not None,
        projection=projection,
        projections=["pca", "umap"] if has_umap() else ["pca"],
        shares=drawn.shares,
        judged=service.editor.least_score is not None,
        revision=found.revision,
    )


def _prompts(found: Gathered, posted: list[Prompt]) -> Iterator[wire.MapPrompt]:
    nowhere: list[Any] = [(None, None)] * (len(found.kept) + len(posted))  # without a calibration there are no keys
    places = found.drawn.prompts or nowhere
    for one, (x, y) in zip(found.kept, places, strict=False):
        line = one.latest
        yield wire.MapPrompt(
            source="kept",
            prompt=line.prompt,
            x=x,
            y=y,
            edit=line.edit if line.fired else None,
            nearest=line.edit,
            reason=line.reason,
            score=finite(line.score),
            time=line.time,
            times=one.times,
        )
    for prompt, route, (x, y) in zip(posted, found.routes, places[len(found.kept) :], strict=True):
        worded = route.reason != "no prompt"
        yield wire.MapPrompt(
            source="posted",
            prompt=prompt,
            x=finite(x) if worded else None,
            y=finite(y) if worded else None,
            edit=route.edit,
            nearest=route.nearest,
            reason=route.reason,
            score=finite(route.score),
            time=None,
            times=1,
        )
