"""Models: ``/v1/models``, the edited model, and the same without its edits."""

from __future__ import annotations

from fastapi import APIRouter

from ..failures import RefusedError
from ..service import BASE, Service
from ..wire import answers as wire
from ..wire.shared import errors
from .common import ServiceOf

router = APIRouter(prefix="/v1", responses=errors(504))


@router.get("/models")
def models(service: ServiceOf) -> wire.ModelList:
    """List the models: the edited one, and the same without its edits."""
    names = service.name, service.name + BASE
    return wire.ModelList(data=[wire.ModelCard(id=name, created=service.created) for name in names])


@router.get("/models/{model:path}")
def one_model(service: ServiceOf, model: str) -> wire.ModelCard:
    """Read one model."""
    unedited(service, model)
    return wire.ModelCard(id=model, created=service.created)


def unedited(service: Service, model: str) -> bool:
    """Return whether the base model is meant.

    Raises:
        RefusedError: if there is no such model.
    """
    if model not in (service.name, service.name + BASE):
        names = f"{service.name} and {service.name}{BASE} (without edits)"
        raise RefusedError(404, f"there is no model {model!r} here: {names} are", "model", "model_not_found")
    return model.endswith(BASE) and model != service.name
