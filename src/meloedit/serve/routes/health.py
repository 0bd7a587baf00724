"""Whether the server lives, whether it is ready, and its figures."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from ..failures import Json
from ..wire.shared import errors
from .common import ServiceOf

router = APIRouter(responses=errors())


class Health(BaseModel):
    """How the server is."""

    status: str


@router.get("/health")
async def health() -> Health:
    """Say that the server lives."""
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses={503: {"model": Health}})
async def ready(service: ServiceOf) -> Response:
    """Say whether answers and changes are taken."""
    return Json({"status": "ready"}) if service.ready else Json({"status": "not ready"}, 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(service: ServiceOf) -> Response:
    """Give the figures in Prometheus' text format."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
