"""The pages of the registry: the models side by side, one with what the gate found on it, and the
dataset that taught it, with its incidents."""

from fastapi import APIRouter, Request, Response

from ingest.errors import Unknown
from ingest.incident import visible
from ingest.lessons import datasets
from ingest.store import Store
from serving.comparison import as_figure, figures, findings, in_one_sentence, key_metrics, next_step
from serving.console.door import Looking
from serving.console.pages import Page, page
from serving.wire import model_view, model_whole
from training import lineage, registry

router = APIRouter(route_class=Page, include_in_schema=False)

A_PAGE = 50
_TOLD = (("rows", "rows"), ("incident_count", "incidents"), ("prompt_hash", "prompt"))
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
        next_step=next_step,
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
        sentence=in_one_sentence(whole["report"]),
        found=findings(whole["report"]),
        figures=figures(whole["metrics"]),
        named=registry.named,
    )


@router.get("/datasets/{name}")
def dataset(request: Request, visitor: Looking, name: str, after: str = "") -> Response:
    """One dataset: what it holds, which models it taught, and by which incidents."""
    store = _store(request)
    kept = next((one for one in datasets(store) if one.name == name), None)
    if kept is None:
        raise Unknown(f"there is no dataset {visible(name)!r} here")
    found = lineage.held(store, name, after=after, limit=A_PAGE + 1)
    some = found[:A_PAGE]
    here = store.many([(one.incident_id, one.version) for one in some])
    return page(
        request,
        "dataset.html",
        visitor,
        dataset=kept,
        figures=[(part, kept.manifest[key]) for key, part in _TOLD if key in kept.manifest],
        learners=lineage.learners(store, name),
        found=[(one, here.get((one.incident_id, one.version))) for one in some],
        more=some[-1].incident_id if len(found) > A_PAGE else None,
        after=after,
    )


def _store(request: Request) -> Store:
    store: Store = request.app.state.service.store
    return store
