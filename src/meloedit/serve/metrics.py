"""Metrics: what Prometheus reads. No text of an edit or a prompt is ever a label."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The figures of one server, in a registry of their own.

    Attributes:
        requests: requests by endpoint and status.
        tokens: tokens of prompts and of answers.
        routes: prompts by the reason of their route.
        first: seconds until the first token of an answer.
        answers: seconds until an answer is whole.
        reports: edits that were made, by what became of them.
        training: seconds that edits took to train.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        on = self._registry
        self.requests = Counter("meloedit_requests", "Requests.", ["endpoint", "status"], registry=on)
        self.tokens = Counter("meloedit_tokens", "Tokens of prompts and answers.", ["kind"], registry=on)
        self.routes = Counter("meloedit_routes", "Prompts by the reason of their route.", ["reason"], registry=on)
        self.first = Histogram("meloedit_first_token_seconds", "Until the first token.", buckets=SECONDS, registry=on)
        self.answers = Histogram("meloedit_answer_seconds", "Until the answer is whole.", buckets=SECONDS, registry=on)
        self.reports = Counter("meloedit_edit_reports", "Edits of jobs, by outcome.", ["status"], registry=on)
        self.training = Counter("meloedit_training_seconds", "Training of edits.", registry=on)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a figure that is read whenever Prometheus asks."""
        Gauge(f"meloedit_{name}", text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)
