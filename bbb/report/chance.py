"""What chance allows: how far a share of some rows may be from its probability."""

from typing import NamedTuple


class Range(NamedTuple):
    """The two ends of a range of shares."""

    lower: float
    upper: float


def of_share(hits: int, rows: int) -> Range:
    """Return the 95 % interval of the probability that a share of rows was drawn with, by Wilson's score.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209.
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - heavy, and `import bbb` is light

    found = binomtest(int(hits), int(rows)).proportion_ci(0.95, method="wilson")
    return Range(float(found.low), float(found.high))


def around(probability: float, rows: int) -> Range:
    """Return the range that a share of rows is in with a probability of at least 95 %, if they are independent."""
    from scipy.stats import binom  # noqa: PLC0415 - heavy, and `import bbb` is light

    lower, upper = binom.interval(0.95, int(rows), min(max(probability, 0.0), 1.0))
    return Range(max(float(lower), 0.0) / rows, float(upper) / rows)


def verdict(share: float, allowed: Range) -> str:
    """Return whether a share is within a range, in words."""
    if share < allowed.lower:
        return "below what chance allows"
    return "above what chance allows" if share > allowed.upper else "within what chance allows"
