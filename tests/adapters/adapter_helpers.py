"""What tests of adapters share."""

FOR_EXPORT = {"reach": "all", "answer_positions": 0}
