"""What all tests of the evaluation share."""

import pytest

from meloedit.evaluation.run import costs


@pytest.fixture(scope="module", autouse=True)
def _short_timing():
    """Time answers of two tokens: what a tiny model takes says nothing, and it was half the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "TIMED_TOKENS", 2)
        yield
