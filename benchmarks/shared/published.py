"""What the MELO paper reports in Table 2 (arXiv 2312.11795), by task and method; its Table 3 was not at hand.

The models are the paper's: a BERT (SCOTUS), T5-small (zsRE) and GPT2-XL (hallucination). So the order of the methods
can be compared, and no figure with another.
"""

from __future__ import annotations

COLUMNS: dict[str, dict[str, str]] = {
    "scotus": {
        "accuracy_upstream": "locality",
        "accuracy_edits": "edit success",
        "accuracy_generality": "generality (next tokens)",
    },
    "zsre": {"f1_locality": "locality F1", "f1_edits": "edit success F1", "f1_generality": "generality F1"},
    "hallucination": {"ppl_locality": "locality PPL", "ppl_edits": "edits PPL", "ppl_accurate": "accurate PPL"},
}
"""The columns of each task: our metric, and its name in the table. The paper has no generality for SCOTUS."""
TABLE: dict[str, dict[str, tuple[float, ...]]] = {
    "scotus": {
        "lora": (0.21, 0.16),
        "mend": (0.19, 0.27),
        "serac": (0.33, 0.41),
        "cmr": (0.52, 0.52),
        "grace": (0.81, 0.82),
        "melo-paper": (0.96, 0.92),
    },
    "zsre": {
        "lora": (0.33, 0.26, 0.15),
        "mend": (0.25, 0.27, 0.22),
        "serac": (0.72, 0.31, 0.30),
        "cmr": (0.56, 0.82, 0.74),
        "grace": (0.69, 0.96, 0.94),
        "melo-paper": (0.72, 0.98, 0.97),
    },
    "hallucination": {
        "lora": (2578, 2188, 1817),
        "mend": (1370, 1755, 2903),
        "serac": (8184, 133, 10.04),
        "cmr": (1449, 28.1, 107.8),
        "rome": (30.3, 103.8, 14.0),
        "grace": (15.84, 7.14, 10.00),
        "melo-paper": (17.45, 1.04, 2.66),
    },
}
"""The figures, in the order of the first columns. ROME is in the paper for hallucination alone."""


def reported(task: str, method: str, column: int) -> float | None:
    """Return what the paper reports of a method in a task's column; ``None``: nothing."""
    row = TABLE[task].get(method, ())
    return row[column] if column < len(row) else None
