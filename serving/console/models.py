"""The pages of the registry: the models side by side, and one with what the gate found on it."""

from fastapi import APIRouter, Request, Response

from ingest.store import Store
from serving.comparison import as_figure, figures, findings, key_metrics
from serving.console.door import Looking
from serving.console.pages import Page, page
from serving.wire import model_view, model_whole
from training import registry

router = APIRouter(route_class=Page, include_in_schema=False)

MOST_METRICS = 4  # beside each other they must fit; a model's own page has all


@router.get("/models")
def models(request: Request, visitor: Looking) -> Response:
    """Every model, the newest first, and which is served."""
    store = _store(request)
    pointer = registry.pointer(store)
    views = [model_view(m, pointer) for m in registry.every(store)]
    return page(
        request,
        "models.html",
        visitor,
        models=views[::-1],
        metrics=key_metrics(views, MOST_METRICS),
        pointer=pointer,
        named=registry.named,
        as_figure=as_figure,
    )


@router.get("/models/{version}")
def model(request: Request, visitor: Looking, version: str) -> Response:
    """One model: what it was taught, what the gate found, and what was done with it."""
    whole = model_whole(_store(request), registry.version_of(version))
    return page(
        request,
        "model.html",
        visitor,
        model=whole,
        found=findings(whole["report"]),
        figures=figures(whole["metrics"]),
        named=registry.named,
    )


def _store(request: Request) -> Store:
    store: Store = request.app.state.service.store
    return store
