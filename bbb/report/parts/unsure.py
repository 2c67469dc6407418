"""The part on the rows that the model is least sure of, with their values."""

import numpy as np

from bbb.report.blocks import Section, Table, Text, level_of, number
from bbb.report.evidence import MOST_COLUMNS, Evidence

MOST = 10
"""The rows that are listed."""


def section(evidence: Evidence) -> Section:
    """Return the rows of the largest uncertainty."""
    rows = np.argsort(-evidence.uncertainty, kind="stable")[:MOST]
    by = evidence.uncertainty_in_words
    words = [f"The rows of the largest {by}, the largest first. Row 1 is the first below the header."]
    if not evidence.model.is_count:
        words.append("Where the part of the weights is large, more rows like these would help; where it is small, not.")
    left = len(evidence.model.features) - MOST_COLUMNS
    if left > 0:
        words.append(f"{left} more column{'s are' if left > 1 else ' is'} left out.")
    made = [_row(evidence, int(row)) for row in rows]
    head = [name for name, _ in made[0]]
    table = Table("The rows it is least sure of", head, [[cell for _, cell in row] for row in made], wide=True)
    return Section("unsure", "The rows it is least sure of", [Text(" ".join(words)), table])


def _row(evidence: Evidence, row: int) -> list[tuple[str, str]]:
    """Return the names and the values of the cells of a row."""
    values = [(column, evidence.cell(column, row)) for column in evidence.shown_columns]
    first = [("row", f"{row + 1:,}")]
    if evidence.is_classes:
        entropy = evidence.predictive.y.entropy
        sure = [("predicted", evidence.predicted(row)), ("observed", evidence.observed(row))]
        parts = [
            ("entropy, nats", number(entropy.total[row], 3)),
            ("of the weights", number(entropy.epistemic[row], 3)),
        ]
        return [*first, *sure, *parts, *values]
    sure = [("predicted", number(evidence.mean[row])), ("sd", number(evidence.std[row], 3))]
    if not evidence.model.is_count:  # whose function is on another scale
        sure.append(("of the weights", number(evidence.predictive.f.std[row, 0], 3)))
    sure.append((f"{level_of(evidence.level)} interval", evidence.interval_in_words(row)))
    inside = "yes" if evidence.hits[row] else "no"
    return [*first, *sure, ("observed", evidence.observed(row)), ("inside", inside), *values]
