"""The service in numbers, for Prometheus; no label ever holds an id or a text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.service import Service

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

    def exposition(self, service: Service) -> bytes:
        """Everything, as Prometheus reads it."""
        condition = service.index.condition()
        counts = service.store.count()
        self._incidents.labels("quarantined").set(counts["quarantined"])
        self._incidents.labels("trusted").set(counts["incidents"] - counts["quarantined"])
        self._lag.set(condition.lag)
        self._healed.set(condition.healed)
        self._sound.set(condition.copy == "sound")
        self._degraded.set(service.rung == "lexical only")
        return generate_latest(self.registry)
