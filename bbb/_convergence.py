"""Whether a training was done when it stopped, by its history alone.

The loss of a step is an estimate from a draw or two, and from a batch of the rows, so that its noise may hide a fall of
a hundred nats. Two other series of a history have next to none: the KL divergence and the learned noise are functions
of the parameters. So the size of the fall is read off the loss, by a line through its last half, and whether
something moved is read off all three: each line is set against the noise about a smooth curve, which does not take a
bend for noise, and whose errors hang together from step to step.
"""

from typing import NamedTuple

import numpy as np

from bbb.history import History

FEWEST = 20
"""Steps below which nothing is said."""

FALL, FALL_OF_RATE, CLEAR_FALL = 10.0, 15.0, 20.0
"""Nats that the bound has to fall over the last half of a training to matter: at a constant learning rate; where the
rate fell, and with it the noise of the parameters, which lowers the bound by itself; and where the KL rests."""

MOVED, PACE = 4.0, 0.05
"""Nats by which the KL of an unfinished training changes over its last half, and nats a step where that is short."""

SLOWED = 0.1
"""How slow the KL is in the last steps, in units of its pace half way, where the learning rate fell."""

LED_BY_NOISE, MOVED_BY_NOISE = 0.02, 0.1
"""Changes of the logarithm of a learned noise that count as a sign of movement, and as movement by itself."""

OF_LOSS, OF_KL, OF_SHORT = 3.0, 10.0, 15.0
"""Standard errors that a line has to rise or fall by: the loss's, one of the series without noise, and the KL's where
it is the only evidence."""


class Drift(NamedTuple):
    """The fall of a series along its line, first step to last, and the standard error of that."""

    fall: float
    error: float

    @property
    def errors(self) -> float:
        """How many standard errors the series fell, or rose, by."""
        return abs(self.fall) / max(self.error, np.finfo(float).tiny)

    def __str__(self) -> str:
        """Say the figures."""
        way = "fell" if self.fall >= 0 else "rose"
        return f"{way} by {_figures(abs(self.fall), 3)} ± {_figures(self.error, 1)}"


class Movement(NamedTuple):
    """What still moved at the end of a training: in nats, along lines through the last `steps` of `of` steps."""

    bound: Drift
    kl: Drift
    log_noise: Drift
    steps: int
    of: int
    rate_fell: bool

    def __str__(self) -> str:
        """Say the figures, to their errors."""
        last = f"over the last {self.steps:,} of {self.of:,} steps"
        return f"{last} the loss {self.bound} nats, and the KL divergence {self.kl}"

    @property
    def goes_on(self) -> bool:
        """Whether the training was not done.

        Measured on networks of one hidden layer trained by Adam, by what going on for 5,000 steps at a rate that falls
        to zero still gained. Of runs of a constant rate with 25 nats or more to go, all of 472 are named that stopped
        within 500 steps or had a tenth of the usual rate, and 137 of 160 of 1,000 to 10,000 steps. Where the rate had
        fallen to zero, the loss rests though the training is not done: 227 of 365 are named. Of runs with less than 5
        nats to go, 1 of 124 is named where the rate fell to zero, 2 of 59 after 4,000 to 10,000 steps of a constant
        one, but 9 of 16 after 1,000 to 2,000. At three times the usual rate, figures are worse.
        """
        moved = abs(self.kl.fall) >= MOVED or self._noise_moved(MOVED_BY_NOISE, OF_SHORT)
        least = FALL_OF_RATE if self.rate_fell else FALL
        fell = self.bound.fall >= least and self.bound.errors >= OF_LOSS
        led = self.kl.errors >= OF_KL or self._noise_moved(LED_BY_NOISE, OF_KL)
        followed = self.bound.fall >= least and self.bound.errors >= 1 and moved and led
        short = abs(self.kl.fall) >= max(3.0, PACE * self.steps) and self.kl.errors >= OF_SHORT
        return (fell and (moved or self.bound.fall >= CLEAR_FALL)) or followed or short

    def _noise_moved(self, least: float, errors: float) -> bool:
        return abs(self.log_noise.fall) >= least and self.log_noise.errors >= errors


def movement(history: History) -> Movement | None:
    """Measure what still moved at the end of a training.

    Args:
        history: of one training, or of several side by side, which are averaged.

    Returns:
        None where it cannot be told: for fewer than `FEWEST` steps, a cost that does not count the KL, or a training
        that was taken back to an earlier step by its validation.
    """
    steps = len(history.loss)
    if steps < FEWEST or _taken_back(history):
        return None
    loss, data, kl = (_mean_of_members(part) for part in (history.loss, history.data_term, history.kl))
    weights = (loss - data) / np.maximum(np.abs(kl), np.finfo(float).tiny)
    weight = float(np.mean(weights[-max(1, steps // 10) :]))
    if weight <= 0:
        return None
    nats = 1.0 if history.is_elbo else 1 / weight
    first = _settled(weights, weight)
    bound = nats * (data + weight * kl)
    noise = np.zeros(steps) if history.noise_std is None else _mean_of_members(np.log(history.noise_std))
    return Movement(drift(bound[first:]), drift(kl[first:]), drift(noise[first:]), steps - first, steps, _rate_fell(kl))


def drift(values: np.ndarray) -> Drift:
    """Fit a line to a series (steps,), and estimate how well its slope is known.

    The noise is what a cubic leaves, and its autocorrelation is counted up to a tenth of the series.

    Source: Newey & West 1987, Econometrica 55, 703 (the weights of the autocorrelations).
    """
    steps = len(values)
    centred = np.arange(steps) - (steps - 1) / 2
    spread = float(centred @ centred)
    slope = float(centred @ values) / spread
    cubic = np.polynomial.legendre.legvander(2 * centred / (steps - 1), 3)
    noise = values - cubic @ np.linalg.lstsq(cubic, values, rcond=None)[0]
    scores = centred * noise * np.sqrt(steps / max(steps - cubic.shape[1], 1))
    lags = max(2, steps // 10)
    products = np.fft.irfft(np.square(np.abs(np.fft.rfft(scores, 2 * steps))), 2 * steps)[: lags + 1]
    weights = 2 * (1 - np.arange(lags + 1) / (lags + 1))
    variance = float(weights @ products) - products[0]
    return Drift(-slope * steps, float(np.sqrt(max(variance, 0.0))) / spread * steps)


def _figures(value: float, digits: int) -> str:
    """Write a number to so many significant digits, with commas and without an exponent where it is large."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def _rate_fell(kl: np.ndarray) -> bool:
    """Tell whether the learning rate fell towards the end: whether the KL moves by ever less from step to step."""
    pace = np.abs(np.diff(kl))
    part = max(len(pace) // 20, 1)
    middle = pace[len(pace) // 2 : len(pace) // 2 + part]
    return bool(np.mean(pace[-part:]) < SLOWED * np.mean(middle))


def _settled(weights: np.ndarray, last: float) -> int:
    """Count the steps to leave out: the first half, and those before the KL's weight had its last value.

    Weights that differ from step to step to the end, as `minibatch_weights` gives, are taken for their mean.
    """
    steps = len(weights)
    off = np.flatnonzero(np.abs(weights - last) > 0.02 * last)
    settled = int(off[-1]) + 1 if len(off) else 0
    return max(steps // 2, settled if settled <= 0.8 * steps and steps - settled >= FEWEST // 2 else 0)


def _taken_back(history: History) -> bool:
    """Tell whether the model is one of an earlier step, after which held-out rows were predicted less well."""
    if history.best_step is None:
        return False
    return float(np.mean(history.best_step)) < 0.9 * len(history.loss)


def _mean_of_members(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float).reshape(len(values), -1).mean(axis=1)
