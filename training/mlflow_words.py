"""What MLflow's pages say in prose, and the links that lead on: a page without words is a riddle.

All links are relative to MLflow's own page, so they hold wherever the browser found it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from training.registry import Registered, named

NOTE = "mlflow.note.content"
VIEW = "scarwise"  # the key of our view of the runs
INCIDENTS, MANIFEST = "lineage/incidents.csv", "dataset/manifest.json"
TELLING = ("new cohort", "kept", "closed book", "general")  # as the gate tells them

_CLASSIC = "workflowType=machine_learning"  # MLflow opens on the pages for traces otherwise
_COLUMNS = (
    "attributes.`Created`",
    *(f"metrics.`right/{name}`" for name in TELLING),
    "tags.`verdict`",
    "tags.`standing`",
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of MLflow's, and the names of the evaluations that it holds."""

    experiment: str
    id: str
    evaluations: tuple[str, ...] = ()

    def page(self, file: str = "") -> str:
        """The address of the run, or of one of its files."""
        at = f"/artifacts/{quote(file)}" if file else ""
        return f"#/experiments/{self.experiment}/runs/{self.id}{at}?{_CLASSIC}"


def of_model(model: Registered, run: Run, incidents: int) -> str:
    """What a run, a logged model and a version are: the verdict first, then whence it came.

    Its own dataset holds so many `incidents`.
    """
    lines = [f"{(model.verdict or 'not judged').upper()}: {_sentence(model)}", ""]
    if model.tainted:
        lines = [_taint(model), "", *lines]
    if model.dataset:
        lines.append(
            f"- Taught by [{model.dataset}]({run.page(MANIFEST)}): [{incidents:,} incidents]"
            f"({run.page(INCIDENTS)}); it went on from {named(model.parent)}."
        )
    for name in run.evaluations:
        report = run.page(f"evals/{name}/gate.md")
        matrix = run.page(f"evals/{name}/matrix-retrieval.png")
        lines.append(f"- [The gate's report on {name}]({report}); [what was kept]({matrix}).")
    lines.append(
        f"- `scarwise models {model.name} --incidents` lists what taught it; "
        f"`scarwise promote {model.name}` serves it. Aliases here only follow."
    )
    return "\n".join(lines)


def of_experiment(experiment: str, beside: Sequence[tuple[str, str]]) -> str:
    """What the runs are; `beside` are (name, MLflow's id) of those worth a comparison now."""
    links = [f"[Verdicts and figures]({runs_page(experiment)})"]
    if len(beside) > 1:
        names = ", ".join(name for name, _ in beside)
        page = compare_page([run for _, run in beside], [experiment])
        links.append(f"[{names} side by side]({page})")
    return (
        f"{' · '.join(links)} · each run taught one adapter.\n\n"
        "Figures under *right* and *suite* are shares of right answers on the gate's cases, "
        "0 to 1; their step is the version of the suite. Under *train*, times are seconds and "
        "memory is megabytes. Predictions quote incidents and stay in Scarwise's data folder."
    )


def of_registered(experiment: str) -> str:
    """What the registered model is."""
    return (
        "The adapters that Scarwise may serve. Its aliases follow Scarwise's own pointer: "
        "`scarwise promote` and `scarwise rollback` move it, and what is changed here is put "
        f"back. [Verdicts and figures]({runs_page(experiment)})."
    )


def kind_and_view(at_ms: int) -> dict[str, str]:
    """The experiment's tags for MLflow's own pages: what it is, and a view with our columns."""
    state = {
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": list(_COLUMNS),
    }
    view = {"name": "Verdicts and figures", "createdAt": at_ms, "updatedAt": at_ms}
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "right/kept",
        f"mlflow.sharedViewState.{VIEW}": json.dumps({**view, "state": json.dumps(state)}),
    }


def runs_page(experiment: str) -> str:
    """The list of runs with their verdicts and the telling figures."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&{_CLASSIC}"


def compare_page(runs: Sequence[str], experiments: Sequence[str]) -> str:
    """The page on which MLflow puts these runs side by side."""
    said = [quote(json.dumps(ids, separators=(",", ":")), safe="") for ids in (runs, experiments)]
    return f"#/compare-runs?runs={said[0]}&experiments={said[1]}&{_CLASSIC}"


def suite_of(model: Registered) -> str | None:
    """The suite on which the gate judged it, such as `v3`."""
    told = _measured_on(model.report).get("suite")
    return str(told).partition(" ")[0] if told else None


def _measured_on(report: Mapping[str, Any]) -> Mapping[str, Any]:
    told = report.get("measured_on")
    return told if isinstance(told, Mapping) else {}


def _sentence(model: Registered) -> str:
    return str(model.report.get("in_one_sentence") or f"{model.name}, an adapter of Scarwise.")


def _taint(model: Registered) -> str:
    return (
        f"TAINTED: it was taught {', '.join(model.tainted)}, forgotten since. The weights "
        "still hold what they learned, and this copy of them too: delete this version, its logged "
        "model and its run here once nobody has to look into it."
    )
