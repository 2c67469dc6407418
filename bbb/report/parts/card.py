"""The last part: the model's card, with all that is needed to make it, and the report, again."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from bbb import display
from bbb._version import __version__
from bbb.networks import nn
from bbb.report.blocks import Facts, Section, cut, level_of, number
from bbb.report.evidence import Evidence, rows_in_words
from bbb.report.parts.summary import kind_of
from bbb.tables.table import WORDS

PACKAGES = ("jax", "numpy", "optax", "plotly", "jinja2")
"""The packages whose versions are told, besides bbb and Python."""


def section(evidence: Evidence, command: str, date: str) -> Section:
    """Return what the model is, and how the report was made."""
    return Section(
        "card", "The model card", [Facts((*_model(evidence), *_training(evidence), *_report(evidence, command, date)))]
    )


def _model(evidence: Evidence) -> Iterator[tuple[str, str]]:
    model = evidence.model
    net: Any = model.model
    yield "target", f"{model.target}: {kind_of(evidence)}"
    yield "columns", f"{len(model.features)}: {_first(model.features)}"
    yield "network", _network(net.apply)
    yield "posterior", _posterior(net.posterior)
    if model.structure is not None:
        yield "structure", model.structure.replace("_", " ")
    if net.members > 1:
        yield (
            "draws of chains" if net.posterior.holds_draws else "restarts",
            f"{net.members:,}, which predict as one mixture",
        )
    yield "prior", display.part(net.prior)
    yield "likelihood", display.part(net.likelihood)
    if model.noise_std is not None:
        yield "noise sd", number(model.noise_std)
    if net.linearized:
        yield "predictions", "of the network linearised in its weights around the posterior's mean"
    words = [column.name for column in model.columns.columns if column.kind == WORDS]
    if words:
        yield "categories", _first(words)
    if model.calibration is not None:
        yield (
            "calibrated",
            f"by {rows_in_words(model.calibration.rows)}, for levels up to {number(model.calibration.highest_level())}",
        )


MOST_SETTINGS = 60
"""The settings, or versions, at most that are written."""


def _first(names: Sequence[str]) -> str:
    return ", ".join([*(cut(name, 30) for name in names[:20]), *(["…"] if len(names) > 20 else [])])


def _network(apply: Any) -> str:
    """Return the layers of a network, without the numbers of those that only scale."""
    layers = getattr(getattr(apply, "owner", None), "layers", None)
    if layers is None:
        return display.network(apply)
    return ", ".join("scaling" if isinstance(layer, nn.Affine) else display.layer(layer) for layer in layers)


def _posterior(posterior: Any) -> str:
    one = posterior.component(0)
    weights = sum(map(display.size, jax.tree.leaves(one.random_leaves(one.params))))
    return f"{type(one).__name__}, {display.counted(weights, 'random weight')}"


def _training(evidence: Evidence) -> Iterator[tuple[str, str]]:
    model = evidence.model
    yield "learned from", "not known" if model.learned_from is None else rows_in_words(model.learned_from)
    if model.record is None:
        yield "seed and settings of the training", "not known"
        return
    yield "seed of the training", f"{model.record.seed}"
    yield (
        "settings of the training",
        ", ".join(f"{cut(name)} {_setting(value)}" for name, value in _some(model.record.settings)),
    )
    yield "trained by", ", ".join(f"{cut(name)} {cut(str(value))}" for name, value in _some(model.record.versions))


def _some(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(found.items())[:MOST_SETTINGS]


def _setting(value: Any) -> str:
    return cut("×".join(map(str, value)) if isinstance(value, list | tuple) else str(value), 200)


def _report(evidence: Evidence, command: str, date: str) -> Iterator[tuple[str, str]]:
    how = evidence.how
    yield "rows of this report", f"{rows_in_words(evidence.rows)} of {evidence.name}"
    yield "draws, seed and level", f"{how['draws']:,}, {how['seed']}, {level_of(evidence.level)}"
    yield "command", command
    yield "versions", ", ".join([f"bbb {__version__}", *_versions(), f"Python {platform.python_version()}"])
    yield "date", date


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:  # a copy that was not installed
            continue
