"""The demo's bands: of one posterior drawn from by both, and of posteriors that each trained for itself."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import bbb
from bbb import tasks
from reference import regression
from tests.parity import exact, pairs
from tests.parity.pairs import Net, torch, torchbnn

SETTINGS = tasks.Settings()
DATA = tasks.regression()
NET = Net.of(1, SETTINGS.hidden, 1, std=SETTINGS.prior_std)
OPTIMIZER = optax.adam(SETTINGS.learning_rate)  # one object, so that every seed runs the same compiled program
NETWORK = pairs.jax_network(NET)

TORCH_SEEDS = range(5)
BBB_SEEDS = range(15)
SEGMENTS = 3


def train_bbb(seed):
    """Train the demo by bbb.fit with torchbnn's cost, from torchbnn's start."""
    start_key, fit_key = jax.random.split(jax.random.key(seed))
    model = bbb.bayesianize(
        NETWORK.apply,
        NETWORK.init(start_key),
        prior=bbb.priors.Normal(0.0, SETTINGS.prior_std),
        likelihood=bbb.likelihoods.Gaussian(1.0),
        std=SETTINGS.prior_std,
    )
    return bbb.fit(
        fit_key,
        model,
        DATA.x,
        DATA.y,
        steps=SETTINGS.steps,
        optimizer=OPTIMIZER,
        objective=bbb.train.Objective(bbb.torchbnn.mse_cost, kl_weight=SETTINGS.kl_weight),
        progress=False,
    )[0]


def train_torch(seed):
    """Train the demo as `reference/` does."""
    torch.manual_seed(seed)
    model = regression.network(SETTINGS)
    regression.train(model, tensor(DATA.x), tensor(DATA.y), SETTINGS)
    return model


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float32)


# --- one posterior, 10,000 draws from each ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Estimates:
    """Means and standard deviations at the test points, and the standard errors of both."""

    mean: np.ndarray
    std: np.ndarray
    mcse_mean: np.ndarray
    mcse_std: np.ndarray


@pytest.fixture(scope="module")
def posterior():
    """Means and log sigmas of a trained network, flat."""
    return pairs.jax_posterior(train_bbb(0).posterior)


@pytest.fixture(scope="module")
def estimates(posterior):
    """What bbb, torchbnn and the closed form say of that one posterior."""
    model = pairs.jax_model(NET, *posterior)
    f = bbb.predict(jax.random.key(1), model, DATA.x_test, draws=SETTINGS.draws).f
    torch.manual_seed(1)
    draws = regression.draw(pairs.torch_model(NET, *posterior), tensor(DATA.x_test), SETTINGS.draws)
    band = regression.summarise(draws, SETTINGS.sigmas)
    zero = np.zeros(len(DATA.x_test))
    return {
        "bbb": Estimates(f.mean[:, 0], f.std[:, 0], f.mcse_mean[:, 0], f.mcse_std[:, 0]),
        "torchbnn": Estimates(band.mean, band.std, band.mcse_mean, band.mcse_std),
        "exact": Estimates(*exact.moments(*posterior, DATA.x_test), zero, zero),
    }


# The draws are the only thing that may differ, so the Monte Carlo errors must account for all of the difference. Of
# 300 points × 2 numbers × 3 pairs, one would be off by 5 standard errors by chance in one run of a thousand.
@pytest.mark.parametrize(("one", "other"), [("bbb", "torchbnn"), ("bbb", "exact"), ("torchbnn", "exact")])
def test_draws_of_one_posterior_agree_at_every_point(estimates, one, other):
    a, b = estimates[one], estimates[other]
    assert np.max(np.abs(a.mean - b.mean) / np.hypot(a.mcse_mean, b.mcse_mean)) < 5
    assert np.max(np.abs(a.std - b.std) / np.hypot(a.mcse_std, b.mcse_std)) < 5


# Both report Monte Carlo errors, by the same formulas; errors of errors are a few per cent for 10,000 draws.
def test_monte_carlo_errors_agree(estimates):
    a, b = estimates["bbb"], estimates["torchbnn"]
    np.testing.assert_allclose(a.mcse_mean, b.mcse_mean, rtol=0.1)
    np.testing.assert_allclose(a.mcse_std, b.mcse_std, rtol=0.1)


# --- trained separately ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Trained:
    """What several seeds arrived at: mean and std of f at the test points, (seeds, rows), and KL in nats, (seeds, 1).

    The moments are exact, so that only the training varies from seed to seed, and no draw is needed.
    """

    mean: np.ndarray
    std: np.ndarray
    kl: np.ndarray

    @classmethod
    def of(cls, posteriors, kls):
        mean, std = zip(*(exact.moments(*posterior, DATA.x_test) for posterior in posteriors), strict=True)
        return cls(np.stack(mean), np.stack(std), np.array(kls, np.float64)[:, None])

    @property
    def width(self):
        """The mean width of the ±3 sigma band, (seeds, 1), in units of y."""
        return 2 * SETTINGS.sigmas * self.std.mean(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def ours():
    models = [train_bbb(seed) for seed in BBB_SEEDS]
    return Trained.of(
        [pairs.jax_posterior(model.posterior) for model in models],
        [bbb.priors.kl(model.posterior, model.prior) for model in models],
    )


@pytest.fixture(scope="module")
def theirs():
    models = [train_torch(seed) for seed in TORCH_SEEDS]
    with torch.no_grad():
        kls = [torchbnn.BKLLoss(reduction="sum")(model).item() for model in models]
    return Trained.of([pairs.torch_posterior(model) for model in models], kls)


def standard_errors_apart(a, b):
    """Give, for numbers (seeds, k) of each, how far the means over seeds are apart: (k,), in standard errors.

    The spread between seeds is pooled: if the programs do the same, it is the same in both.
    """
    squares = np.sum((a - a.mean(axis=0)) ** 2, axis=0) + np.sum((b - b.mean(axis=0)) ** 2, axis=0)
    variance = squares / (len(a) + len(b) - 2)
    return np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(variance * (1 / len(a) + 1 / len(b)))


def segments(curves):
    """Average curves (seeds, rows) over each third of x: (seeds, 3).

    Neighbouring points move together from seed to seed (their correlation is over 0.9), so 300 comparisons would say
    little more than three, and 3 standard errors would be passed at some point by chance far more often. Another CPU
    rounds otherwise, and training amplifies that, so the seeds are not fixed everywhere: chance must stay small.
    """
    return curves.reshape(len(curves), SEGMENTS, -1).mean(axis=2)


@pytest.mark.slow
# The published curve: no trace of which program trained it.
def test_separate_training_gives_the_same_mean_curve(ours, theirs):
    assert np.all(standard_errors_apart(segments(ours.mean), segments(theirs.mean)) < 3)


@pytest.mark.slow
# The published band, on the whole and along x.
def test_separate_training_gives_the_same_band(ours, theirs):
    assert np.all(standard_errors_apart(ours.width, theirs.width) < 3)
    assert np.all(standard_errors_apart(segments(ours.std), segments(theirs.std)) < 3)


@pytest.mark.slow
# As far from the prior: the curve and the band rest on 3,001 means and sigmas, and the KL sees every one.
def test_separate_training_gives_the_same_kl(ours, theirs):
    assert np.all(standard_errors_apart(ours.kl, theirs.kl) < 3)


@pytest.mark.slow
# The two tests above would notice: bbb's band made a tenth wider, or its curve moved by the data's noise, is refused.
def test_the_comparison_refuses_a_wider_band_and_a_shifted_curve(ours, theirs):
    wider = dataclasses.replace(ours, std=1.1 * ours.std)
    assert np.all(standard_errors_apart(wider.width, theirs.width) > 5)
    assert np.any(standard_errors_apart(segments(wider.std), segments(theirs.std)) > 5)
    narrower = dataclasses.replace(theirs, std=theirs.std / 1.1)
    assert np.all(standard_errors_apart(ours.width, narrower.width) > 5)
    shifted = ours.mean + tasks.NOISE_STD
    assert np.any(standard_errors_apart(segments(shifted), segments(theirs.mean)) > 3)
