"""Whether a training had converged when it stopped, judged by its history alone.

The loss of a step is estimated from a draw or two, and from a batch of the rows, so that its noise may hide a decrease
of a hundred nats. Two other series of a history have almost no noise, being functions of the parameters: the KL
divergence and the learned noise. The size of the decrease is therefore estimated from the loss, by a line through its
last half, and whether anything moved from all three series: the slope of each line is compared with the noise about a
smooth curve, which allows for curvature and for autocorrelation from step to step.
"""

from typing import NamedTuple

import numpy as np

from bbb.train.history import History

MIN_STEPS = 20
"""Number of steps below which nothing is concluded."""


FALL, FALL_OF_RATE, CLEAR_FALL = 10.0, 15.0, 20.0
"""Nats by which the loss must decrease over the last half of a training to matter: at a constant learning rate; where
the rate fell, and with it the noise of the parameters, which lowers the loss by itself; and where the KL is steady."""


MOVED, PACE = 4.0, 0.05
"""Nats by which the KL of an unfinished training changes over its last half, and nats per step where that is short."""


SLOWED = 0.1
"""Change of the KL per step at the end, relative to half way, below which the learning rate is taken to have fallen."""


LED_BY_NOISE, MOVED_BY_NOISE = 0.02, 0.1
"""Changes of the logarithm of a learned noise that are a sign of movement, and that are movement by themselves."""


OF_LOSS, OF_KL, OF_SHORT = 3.0, 10.0, 15.0
"""Standard errors by which a line must rise or fall: that of the loss, that of a series without noise, and that of the
KL where it is the only evidence."""


class Drift(NamedTuple):
    """The decrease of a series along its line, from first to last step, and its standard error."""

    fall: float
    error: float

    @property
    def errors(self) -> float:
        """The decrease or increase, in standard errors."""
        return abs(self.fall) / max(self.error, np.finfo(float).tiny)

    def __str__(self) -> str:
        """Return the figures as text."""
        way = "fell" if self.fall >= 0 else "rose"
        return f"{way} by {_figures(abs(self.fall), 3)} ± {_figures(self.error, 1)}"


class Movement(NamedTuple):
    """The changes at the end of a training: in nats, along lines through the last `steps` of `of` steps."""

    bound: Drift
    kl: Drift
    log_noise: Drift
    steps: int
    of: int
    rate_fell: bool

    def __str__(self) -> str:
        """Return the figures as text, rounded to their errors."""
        last = f"over the last {self.steps:,} of {self.of:,} steps"
        return f"{last} the loss {self.bound} nats, and the KL divergence {self.kl}"

    @property
    def goes_on(self) -> bool:
        """Whether the training had not converged.

        Measured on networks of one hidden layer trained by Adam, by the gain of 5,000 further steps at a rate that
        falls to zero. Of runs at a constant rate that would gain 25 nats or more, it detects all of 472 that stopped
        within 500 steps or had a tenth of the usual rate, and 137 of 160 of 1,000 to 10,000 steps. Where the rate had
        fallen to zero, the loss is steady although the training has not converged: it detects 227 of 365. Of runs that
        would gain less than 5 nats, it is wrong for 1 of 124 where the rate fell to zero, for 2 of 59 after 4,000 to
        10,000 steps at a constant rate, but for 9 of 16 after 1,000 to 2,000. At three times the usual rate, it is less
        reliable.
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
    """Return the changes at the end of a training.

    Args:
        history: of one training, or of several side by side, which are averaged.

    Returns:
        None if they cannot be estimated: for fewer than `MIN_STEPS` steps, a cost without the KL, or a training whose
        validation went back to an earlier step.
    """
    steps = len(history.loss)
    if steps < MIN_STEPS or _taken_back(history):
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
    """Return the decrease of a series (steps,) along a fitted line, and its standard error.

    The noise is the residual of a cubic, with its autocorrelation up to a tenth of the series.

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
    """Return a number to this many significant digits as text, with commas and without an exponent if it is large."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def _rate_fell(kl: np.ndarray) -> bool:
    """Return whether the learning rate fell towards the end: whether the KL changes ever less from step to step."""
    pace = np.abs(np.diff(kl))
    part = max(len(pace) // 20, 1)
    middle = pace[len(pace) // 2 : len(pace) // 2 + part]
    return bool(np.mean(pace[-part:]) < SLOWED * np.mean(middle))


def _settled(weights: np.ndarray, last: float) -> int:
    """Return the number of steps to leave out: the first half, and those before the KL's weight had its final value.

    Weights that differ from step to step until the end, as those of `minibatch_weights`, are replaced by their mean.
    """
    steps = len(weights)
    off = np.flatnonzero(np.abs(weights - last) > 0.02 * last)
    settled = int(off[-1]) + 1 if len(off) else 0
    return max(steps // 2, settled if settled <= 0.8 * steps and steps - settled >= MIN_STEPS // 2 else 0)


def _taken_back(history: History) -> bool:
    """Return whether the model is one of an earlier step, after which held-out rows were predicted less well."""
    if history.best_step is None:
        return False
    return float(np.mean(history.best_step)) < 0.9 * len(history.loss)


def _mean_of_members(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float).reshape(len(values), -1).mean(axis=1)
