"""Figures of a served subclass for Prometheus, of this process; those of events are of all processes."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from maskloop_backend.ml_base.events import Events


class Figures:
    """Counters of predictions, and the events of `fit` as the database has them."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.registry = CollectorRegistry()
        self.seconds = Histogram("maskloop_ml_predict_seconds", "Duration of /predict.", registry=self.registry)
        self.tasks = Counter("maskloop_ml_tasks", "Tasks in /predict.", ["outcome"], registry=self.registry)
        self._events = Gauge("maskloop_ml_events", "Events for fit, by state.", ["state"], registry=self.registry)

    def text(self) -> bytes:
        """The figures now, in Prometheus' text format."""
        for state, count in self.events.report()["fits"].items():
            self._events.labels(state).set(count)
        return generate_latest(self.registry)
