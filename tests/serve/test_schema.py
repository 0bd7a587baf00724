"""The OpenAPI schema is what the server does: fuzzed requests, right ones and wrong ones, get answers that fit it."""

from collections import Counter
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks
from serve_helpers import serving
from support.prompts import FACTS

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(make_editor, tmp_path_factory):
    """A server whose edits train only a moment, since fuzzed ones rarely hold."""
    store = tmp_path_factory.mktemp("fuzz") / "a.melo"
    editor = make_editor(store=store, steps=1, max_rank=2, calibration_prompts=200)
    with serving(editor, max_batch=4, max_tokens=8, max_jobs=20) as running:
        yield running
    editor.unload()


FEW = ["POST /v1/chat/completions", "POST /v1/edits", "GET /v1/edits", "PATCH /v1/edits/{edit_id}", "POST /v1/route"]
"""What is fuzzed in every run; the rest takes long to make up requests for."""


def names(schema):
    return {f"{method.upper()} {path}" for path, item in schema["paths"].items() for method in item}


@pytest.mark.parametrize("cases", [2, pytest.param(90, marks=pytest.mark.slow)], ids=["few", "many"])
def test_every_answer_fits_the_schema(fuzzed, cases):
    raw = fuzzed.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(raw)
    schema.config.update(base_url=fuzzed.url)
    seen, statuses = Counter(), Counter()
    chosen = names(raw) if cases > 50 else set(FEW)
    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.label not in chosen:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=cases,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                derandomize=True,
            )
            @given(case=strategy)
            def one(case):
                if isinstance(case.query, dict) and "wait" in case.query:
                    case.query["wait"] = 0
                response = case.call(base_url=fuzzed.url, timeout=60)
                case.validate_response(response, checks=CHECKS)
                seen[case.operation.label] += 1
                statuses[response.status_code // 100] += 1

            with suppress(Unsatisfiable):  # nothing of this operation can be wrong
                one()
    assert set(seen) == chosen
    assert statuses[5] == 0 and min(statuses[2], statuses[4]) > 0
    assert sum(seen.values()) >= cases * len(seen)
    if cases > 50:
        assert sum(seen.values()) >= 2000
    assert fuzzed.good(fuzzed.get("/ready")) == {"status": "ready"}
    assert fuzzed.ask(FACTS[0].prompt).status_code == 200
