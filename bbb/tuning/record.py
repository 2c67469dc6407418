"""What `tune` returns besides the model: the evidence and the scales at every update."""

import dataclasses

import numpy as np

from bbb import display


@dataclasses.dataclass(frozen=True, repr=False)
class Tuning(display.Displayed):
    """The updates of the scales, those where a round began among them; arrays of shape (updates, ...).

    Attributes:
        evidence: Laplace's log p(y | x), in nats, of all members together. Within a round it never falls. In float32
            its determinant is that of a sum of squares where this is right to about 0.01; `log_evidence` is exacter.
        round: of which round an update is: 0 without training; with it, from 1.
        prior_std: for each group of weights, by its name, the prior's standard deviation, (updates,): the root mean
            square over its weights where that is not one number.
        noise_std: the likelihood's noise in y's units, (updates, ...), with an axis of members for an ensemble; None if
            it has none, or it is not learned.
        best: the index of the update whose scales and means were returned: that of the largest evidence.
    """

    evidence: np.ndarray
    round: np.ndarray
    prior_std: dict[str, np.ndarray]
    noise_std: np.ndarray | None
    best: int

    def _table_shown(self) -> display.Table:
        best = self.best
        rows = [("evidence", f"{_moved(self.evidence, best)} nats")]
        groups = list(self.prior_std.items())
        rows += display.first_rows(groups, lambda item: (f"prior std of {item[0]}", _moved(item[1], best)))
        if self.noise_std is not None:
            rows.append(("noise std", _moved(self.noise_std, best)))
        rounds = len(np.unique(self.round))
        of = f" in {display.counted(rounds, 'round')}" if rounds > 1 else ""
        return display.Table(f"Tuning by the evidence, {display.counted(len(self.evidence), 'update')}{of}", rows)


def _moved(values: np.ndarray, best: int) -> str:
    """Say a quantity at the start and where the evidence was largest, as a range over members and outputs."""
    return f"{display.span(values[0])} at first, {display.span(values[best])} at best"


def joined(records: list[Tuning], best: int, first: int) -> Tuning:
    """Return the records of rounds, numbered from `first`, as one, of which the last update of round `best` is best."""
    noise = [record.noise_std for record in records if record.noise_std is not None]
    return Tuning(
        evidence=np.concatenate([record.evidence for record in records]),
        round=np.concatenate([record.round + first + i for i, record in enumerate(records)]),
        prior_std={name: np.concatenate([r.prior_std[name] for r in records]) for name in records[0].prior_std},
        noise_std=np.concatenate(noise) if noise else None,
        best=sum(len(record.evidence) for record in records[: best + 1]) - 1,
    )
