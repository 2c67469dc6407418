"""The first part: what the model predicts, how well, and whether its intervals hold what they say."""

import numpy as np

from bbb.report import chance
from bbb.report.blocks import Block, Facts, Section, Text, cut, level_of, number, percent
from bbb.report.evidence import Evidence, rows_in_words


def section(evidence: Evidence) -> Section:
    """Return what a reader should know who reads no further."""
    words = [_what(evidence), _sure(evidence), _found(evidence)]
    blocks: list[Block] = [Text(" ".join(words)), Facts(_scores(evidence)), Text(_held_out(evidence))]
    return Section("summary", "In short", blocks)


def kind_of(evidence: Evidence) -> str:
    """Return the kind of the target in words."""
    model = evidence.model
    if model.classes is not None:
        return f"one of {len(model.classes)} classes"
    return "a count" if model.is_count else "a measurement"


def _what(evidence: Evidence) -> str:
    target = cut(evidence.model.target, 80)
    return f"The model predicts “{target}”, {kind_of(evidence)}, of {rows_in_words(evidence.rows)}."


def _sure(evidence: Evidence) -> str:
    """Return whether the model is as sure as it should be, in words and with the range of chance."""
    scores = evidence.scores
    if evidence.is_classes:
        return _sure_of_classes(evidence)
    share, level = scores["coverage"], evidence.level
    allowed, calibration = evidence.allowed(level), evidence.model.calibration
    found = f"Inside their {level_of(level)} interval are {percent(share)} of the rows"
    if evidence.model.is_count and share >= level:
        return f"{found}: at least as many as there should be, as an interval of counts holds whole numbers."
    of = "of a model that is right" if calibration is None else f"after {rows_in_words(calibration.rows)} calibrated it"
    top = "or more" if evidence.model.is_count else f"to {percent(allowed.upper)}"
    right = f"{of}, {percent(allowed.lower)} {top} would be"
    return f"{found}, which is {chance.verdict(share, allowed)}: {right}."


def _sure_of_classes(evidence: Evidence) -> str:
    share, sure = evidence.scores["accuracy"], float(np.mean(evidence.confidence))
    allowed = chance.of_probabilities(evidence.confidence)
    ends = f"{percent(allowed.lower)} to {percent(allowed.upper)}"
    found = f"The class it finds most probable is right in {percent(share)} of the rows"
    return (
        f"{found}, and the probability that it gives is {percent(sure)} on average: its accuracy is "
        f"{chance.verdict(share, allowed)}, {ends}."
    )


def _found(evidence: Evidence) -> str:
    count = len(evidence.diagnosis)
    if not count:
        return "Nothing looks wrong to the diagnosis."
    return f"The diagnosis, below, has {'a finding' if count == 1 else f'{count} findings'}."


def _scores(evidence: Evidence) -> list[tuple[str, str]]:
    """Return the scores of `bbb evaluate`, in words."""
    scores = evidence.scores
    found = [("rows", f"{scores['rows']:,}"), ("log score, nats per row", number(scores["log_score"]))]
    if evidence.is_classes:
        found += [("accuracy", percent(scores["accuracy"])), ("Brier score", number(scores["brier"]))]
        found += [("expected calibration error", percent(scores["expected_calibration_error"]))]
        if "set_coverage" in scores:
            found += [(f"class in its {level_of(scores['level'])} set", percent(scores["set_coverage"]))]
            found += [("mean number of classes in a set", number(scores["mean_set_size"]))]
        return found
    found += [("root mean square error", number(scores["rmse"])), ("CRPS", number(scores["crps"]))]
    found += [(f"inside the {level_of(evidence.level)} interval", percent(scores["coverage"]))]
    return [*found, ("mean width of that interval", number(scores["mean_width"]))]


def _held_out(evidence: Evidence) -> str:
    learned = evidence.model.learned_from
    if learned == evidence.rows:
        return (
            f"The model was learned from {learned:,} rows, as many as these. If they are the same, all that follows "
            "looks better than it is on new rows: give the report rows that were held out."
        )
    known = "" if learned is None else f" The model was learned from {rows_in_words(learned)}."
    return f"All of this is true of new rows only if these rows were held out of the training.{known}"
