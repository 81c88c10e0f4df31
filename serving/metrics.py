"""The service in numbers, for Prometheus; no label ever holds an id or a text."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.live import Live
from serving.outcome import EXIT
from serving.schedule import FAILED, STOPPED
from serving.service import Service, tainted_champion
from serving.waiting import Reason

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "scarwise_http_requests_total",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "scarwise_http_request_seconds",
            "Time to the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._incidents = Gauge(
            "scarwise_incidents", "Incidents kept, by trust.", ["trust"], registry=self.registry
        )
        self._lag = Gauge(
            "scarwise_index_lag", "Incidents not yet indexed.", registry=self.registry
        )
        self._healed = Gauge(
            "scarwise_index_healed_total", "Rebuilds of Chroma's copy.", registry=self.registry
        )
        self._sound = Gauge(
            "scarwise_index_sound", "1 when Chroma's copy is sound.", registry=self.registry
        )
        self._degraded = Gauge(
            "scarwise_degraded", "1 when answers come from words only.", registry=self.registry
        )
        self._model = Gauge(
            "scarwise_model_version", "The adapter served; 0 is none.", registry=self.registry
        )
        self._refused = Gauge(
            "scarwise_model_refused", "1 while the champion is not served.", registry=self.registry
        )
        self._swaps = Gauge(
            "scarwise_model_swaps_total", "Changes of the served model.", registry=self.registry
        )
        self._answers = Gauge(
            "scarwise_model_answers_total", "Answers a model had a say in.", registry=self.registry
        )
        self._fallbacks = Gauge(
            "scarwise_model_fallbacks_total",
            "Answers given without the model, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._tainted = Gauge(
            "scarwise_champion_tainted",
            "1 while the champion knows what was forgotten.",
            registry=self.registry,
        )
        self._retrainings = Counter(
            "scarwise_retrainings_total",
            "Turns of the schedule in `serve`, by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in (*EXIT, FAILED, STOPPED):  # what never happened is 0, not absent
            self._retrainings.labels(outcome)

    def retrained(self, outcome: str) -> None:
        """Count a turn that ended so."""
        self._retrainings.labels(outcome).inc()

    def exposition(self, service: Service) -> bytes:
        """Everything, as Prometheus reads it."""
        condition = service.index.condition()
        counts = service.store.count()
        self._incidents.labels("quarantined").set(counts["quarantined"])
        self._incidents.labels("trusted").set(counts["incidents"] - counts["quarantined"])
        self._lag.set(condition.lag)
        self._healed.set(condition.healed)
        self._sound.set(condition.copy == "sound")
        self._degraded.set(service.without_meaning is not None)
        self._expose(service.live)
        self._tainted.set(tainted_champion(service.store) is not None)
        return generate_latest(self.registry)

    def _expose(self, live: Live) -> None:
        self._model.set(live.serving.version if live.serving else 0)
        self._refused.set(live.why is not None)
        self._swaps.set(live.swaps)
        self._answers.set(live.answers)
        for reason in get_args(Reason):
            self._fallbacks.labels(reason).set(live.fallbacks[reason])
