"""The cost of edits: speed and its interval."""

from meloedit.evaluation.run.costs import editing_speed


def test_one_part_of_edits_has_a_speed_and_no_interval():
    one, two = ({"edits": 4, "seconds": seconds} for seconds in (60.0, 30.0))
    assert editing_speed([one]).to_dict() == {"value": 4.0, "ci": None, "n": 4}
    assert editing_speed([one, two]).to_dict()["ci"] == [4.0, 8.0]
