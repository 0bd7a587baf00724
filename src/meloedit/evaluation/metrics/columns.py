"""Which metrics the tables show, and in what order: ``meloedit eval``, ``meloedit report`` and the benchmarks."""

MAIN = (
    "edit_success",
    "generality",
    "portability",
    "locality_near",
    "locality_far",
    "activation_near",
    "activation_far",
)
"""Success, generality and locality of answers that are generated."""
PAPER = ("f1_edits", "f1_generality", "f1_locality", "accuracy_edits", "accuracy_generality", "accuracy_upstream")
"""The paper's own metrics."""
PERPLEXITY = ("ppl_edits", "ppl_accurate", "ppl_locality")
"""The metrics of passages."""
COST = ("edits_per_minute", "answer_time_ratio")
"""What editing and answering take."""
EVAL = (*MAIN, *PAPER, *PERPLEXITY, *COST)
"""Columns of ``meloedit eval``; those that were not measured are left out."""
REPORT = (
    "edit_success",
    "f1_edits",
    "accuracy_edits",
    "ppl_edits",
    "generality",
    "f1_generality",
    "accuracy_generality",
    "locality_far",
    "locality_near",
    "f1_locality",
    "accuracy_upstream",
    "ppl_locality",
    "edits_per_minute",
)
"""Columns of ``meloedit report`` on a terminal: columns that must have room come first."""
LEADERBOARD = (
    "edit_success",
    "f1_edits",
    "accuracy_edits",
    "ppl_edits",
    "generality",
    "f1_generality",
    "accuracy_generality",
    "portability",
    "portability_contained",
    "locality_near",
    "locality_far",
    "f1_locality",
    "accuracy_upstream",
    "ppl_accurate",
    "ppl_locality",
    "fires_same_subject",
    "answer_time_ratio",
    "bytes_per_edit",
    "edits_per_minute",
)
"""Columns of ``meloedit report --leaderboard``; those that no method has are left out."""
ROUTING = (
    "right_edit",
    "right_block_rephrases",
    "wrong_block_rephrases",
    "coverage_far_1pct",
    "coverage_near_5pct",
    "activation_near",
    "activation_far",
)
"""Columns of both commands for a run that measured routing alone."""
HELPDESK = (
    "reaches_close",
    "reaches_far",
    "reaches_terse",
    "fires_same_subject_hard",
    "fires_same_subject_easy",
    "fires_same_relation",
    "activation_far",
    "reaches_chat",
    "reaches_pronoun",
)
"""Columns of both commands for the routes of a help desk."""
PAIRS = ("auc", "hits", "traps", "coverage_traps_5pct")
"""Columns of both commands for pairs."""


def columns_of(task: str, protocol: str, others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of a run.

    Args:
        task: the run's task.
        protocol: its protocol.
        others: the columns of a run whose models answer.
    """
    if protocol != "routing":
        return others
    return {"helpdesk": HELPDESK, "pairs": PAIRS}.get(task, ROUTING)
