"""The contenders of `benchmarks.tabular`: the estimator as it comes, and each peer in its strongest known form.

A contender sees the rows to learn from and nothing else: `fit(x, y, seed)`; what it returns is then scored on others.
What a peer leaves to its user (a penalty, a length of training) is chosen within these rows, by parts held out of them.
"""

import contextlib
import dataclasses
import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

import bbb
from bbb.sklearn import BayesianMLPRegressor
from bbb.tables.fit import fit_table
from bbb.train import fit_each
from benchmarks.tabular_scores import LEVEL, TARGET, Conformal, Estimator, Fitted, Normals, Tabular, Units, table

GP_ROWS, GP_MOST = 1_000, 2_000
"""A Gaussian process takes that many rows, drawn at random, of more than so many: its cost grows as their cube."""

GP_RESTARTS = 2


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to learn a table.

    Attributes:
        fit: `fit(x, y, seed)`; it imports no module that is not in `modules`.
        about: what it is, in a line.
        modules: what must be installed, each with what `pip install` calls it.
    """

    fit: Callable[[np.ndarray, np.ndarray, int], Fitted]
    about: str
    modules: tuple[tuple[str, str], ...] = ()

    def missing(self) -> str | None:
        """Return how to install the first module that is not there, or None if all are."""
        for module, package in self.modules:
            name = module.split(".")[0]
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed: python -m pip install {package}"
        return None


# bbb


def bbb_default(x: np.ndarray, y: np.ndarray, seed: int) -> Estimator:
    """Fit the estimator as it comes."""
    return Estimator(BayesianMLPRegressor(random_state=seed).fit(x, y))


def bbb_mean_field(x: np.ndarray, y: np.ndarray, seed: int) -> Estimator:
    """Fit the estimator with independent Gaussian weights."""
    return Estimator(BayesianMLPRegressor(posterior="mean_field", random_state=seed).fit(x, y))


def bbb_fit(x: np.ndarray, y: np.ndarray, seed: int) -> Tabular:
    """Learn the table as `bbb fit` does with no option given."""
    model, _ = fit_table(table(x, y), TARGET, seed=seed, progress=False)
    return Tabular(model)


# Gaussian processes


def gaussian_process(x: np.ndarray, y: np.ndarray, seed: int, *, scales: bool = True) -> Normals:
    """Fit scikit-learn's Gaussian process by its evidence.

    Strongest: amplitude, noise and a length scale for each column are learned, from several starts, in standardised
    columns, and a length scale may grow to 1e4, which switches its column off.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    if len(x) > GP_MOST:
        some = np.random.default_rng(seed).choice(len(x), GP_ROWS, replace=False)
        x, y = x[some], y[some]
    units = Units.of(x, y)
    lengths = np.ones(x.shape[1]) if scales else 1.0
    signal = kernels.ConstantKernel(1.0) * kernels.RBF(lengths, (1e-2, 1e4))
    kernel = signal + kernels.WhiteKernel(0.1, (1e-6, 10.0))
    made = GaussianProcessRegressor(kernel, n_restarts_optimizer=GP_RESTARTS, random_state=seed)
    made.fit(units.x(x), units.y(y))
    return units.normals(lambda values: made.predict(values, return_std=True))  # the kernel holds the noise: this is y


def one_length(x: np.ndarray, y: np.ndarray, seed: int) -> Normals:
    """Fit it with one length scale for all columns."""
    return gaussian_process(x, y, seed, scales=False)


# NGBoost


def ngboost(x: np.ndarray, y: np.ndarray, seed: int) -> Normals:
    """Fit boosted trees for the mean and the logarithm of the standard deviation.

    Strongest, and the protocol of its paper (Duan et al. 2020, arXiv 1910.03225): the number of trees is that of the
    best log score on a fifth of the rows, held out at random, and then all rows are learned with so many.
    """
    from ngboost import NGBRegressor
    from sklearn.model_selection import train_test_split

    units = Units.of(x, y)
    x, y = units.x(x), units.y(y)
    settings = {"learning_rate": 0.01, "verbose": False, "random_state": seed}
    part, held_out, y_part, y_held_out = train_test_split(x, y, test_size=0.2, random_state=seed)
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it uses what it was given
        first = NGBRegressor(n_estimators=2_000, early_stopping_rounds=50, **settings)
        first.fit(part, y_part, X_val=held_out, Y_val=y_held_out)
        made = NGBRegressor(n_estimators=first.best_val_loss_itr + 1, **settings).fit(x, y)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = made.pred_dist(values)
        return found.loc, found.scale

    return units.normals(predict)


# Conformal prediction


def mapie(x: np.ndarray, y: np.ndarray, seed: int) -> Conformal:
    """Fit MAPIE's CV+ over scikit-learn's network.

    Strongest: CV+ of 10 folds learns from 9 tenths of the rows, where split conformal prediction gives up a part for
    its quantile (Barber et al. 2021, Ann. Stat. 49, 486); L-BFGS is what scikit-learn advises for small tables; and
    penalty and activation are chosen by cross-validation.
    """
    from mapie.regression import CrossConformalRegressor
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neural_network import MLPRegressor

    units = Units.of(x, y)
    x, y = units.x(x), units.y(y)
    network = MLPRegressor(hidden_layer_sizes=(50,), solver="lbfgs", max_iter=500, random_state=seed)
    tried = {"alpha": [0.01, 0.1, 1.0, 10.0], "activation": ["relu", "tanh"]}
    folds = [KFold(count, shuffle=True, random_state=seed) for count in (3, 10)]
    chosen = GridSearchCV(network, tried, cv=folds[0], scoring="neg_root_mean_squared_error", refit=False).fit(x, y)
    network.set_params(**chosen.best_params_)
    made = CrossConformalRegressor(network, confidence_level=LEVEL, method="plus", cv=folds[1])
    made.fit_conformalize(x, y)

    def predict(values: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        mean, ends = made.predict_interval(units.x(values))
        lower, upper = (ends[:, i, 0] * units.y_std + units.y_mean for i in range(2))
        return mean * units.y_std + units.y_mean, (lower, upper)

    return Conformal(predict)


# A deep ensemble


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is chosen for the members of an ensemble.

    Attributes:
        activation: "relu" or "tanh".
        gain: of the prior that stands for weight decay: its variances are gain/fan-in.
        noise_gain: the same of the weights that give the logarithm of the standard deviation; the smaller one is noise
            that hardly depends on the inputs. Where it may, that of some hundred rows goes to 0 at the rows.
    """

    activation: str
    gain: float
    noise_gain: float


MEMBERS, FOLDS, UNITS, BATCH, STEPS = 5, 5, 50, 100, 2_000
CHOICES = tuple(
    Choice(activation, gain, noise_gain)
    for activation in ("relu", "tanh")
    for gain in (0.25, 0.5, 1.0, 2.0)
    for noise_gain in (1e-3, 0.3)
)


def deep_ensemble(x: np.ndarray, y: np.ndarray, seed: int) -> Normals:
    """Fit five networks of a mean and a variance, by log likelihood and weight decay, from as many starts.

    Strongest: size, batch and number of members are those of Lakshminarayanan et al. 2017, arXiv 1612.01474, section
    3.3; activation and weight decay, which they fix, have the best log score of 5-fold cross-validation, after which
    all rows are learned; and scores are of the mixture, not of a Gaussian in its place. Their adversarial training is
    left out.
    """
    units = Units.of(x, y)
    x, y = (part.astype(np.float32) for part in (units.x(x), units.y(y)[:, None]))
    choice_key, key = jax.random.split(jax.random.key(seed))
    best = _chosen(choice_key, x, y, CHOICES)
    members = _members(jax.random.split(key, MEMBERS), [best] * MEMBERS, [x] * MEMBERS, [y] * MEMBERS)

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [member(values.astype(np.float32)) for member in members]
        means, stds = zip(*found, strict=True)
        return np.stack(means), np.stack(stds)

    return units.normals(predict)


def _chosen(key: jax.Array, x: np.ndarray, y: np.ndarray, choices: Sequence[Choice]) -> Choice:
    """Return the choice with the best log score on rows held out: all of one program are trained side by side."""
    order_key, key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, len(x)))
    held_out = [order[i::FOLDS] for i in range(FOLDS)]
    parts = [np.setdiff1d(order, fold)[: len(x) - len(held_out[0])] for fold in held_out]  # of one length
    found: dict[Choice, float] = {}
    for activation in dict.fromkeys(choice.activation for choice in choices):
        alike = [choice for choice in choices if choice.activation == activation]
        each = [(choice, fold) for choice in alike for fold in range(FOLDS)]
        rows = [parts[fold] for _, fold in each]
        keys = jax.random.split(key, len(each))
        trained = _members(keys, [choice for choice, _ in each], [x[of] for of in rows], [y[of] for of in rows])
        for (choice, fold), member in zip(each, trained, strict=True):
            mean, std = member(x[held_out[fold]])
            nats = np.sum(-0.5 * np.square((y[held_out[fold], 0] - mean) / std) - np.log(std))
            found[choice] = found.get(choice, 0.0) + float(nats)
    return max(found, key=found.__getitem__)


Member = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _members(keys: jax.Array, choices: Sequence[Choice], x: list[np.ndarray], y: list[np.ndarray]) -> list[Member]:
    """Train a network for each key, choice and data: by the log likelihood and the log density of the prior."""
    layers = (bbb.nn.linear(x[0].shape[1], UNITS), getattr(bbb.nn, choices[0].activation), bbb.nn.linear(UNITS, 2))
    network, noise = bbb.nn.sequential(*layers), bbb.likelihoods.HeteroscedasticGaussian()
    models = []
    for key, choice in zip(keys, choices, strict=True):
        params = network.init(key)
        models.append(bbb.bayesianize(network.apply, params, prior=_prior(params, choice), likelihood=noise))
    trained, _ = fit_each(
        keys,
        models,
        x,
        y,
        steps=STEPS,
        batch_size=min(BATCH, len(x[0])),
        optimizer=optax.adam(optax.cosine_decay_schedule(0.01, STEPS)),
        objective=bbb.train.Objective(forward=bbb.forwards.at_mean(network.apply)),
    )

    def member(model: bbb.BNN) -> Member:
        def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            outputs = network.apply(model.posterior.mean, values)
            return np.asarray(noise.mean(outputs))[:, 0], np.asarray(noise.std(outputs))[:, 0]

        return predict

    return [member(model) for model in trained]


def _prior(params: Any, choice: Choice) -> Any:
    """Return N(0, gain/fan-in), and N(0, 1) for biases, with a gain of its own for the weights of the noise."""
    prior = bbb.priors.fan_in(params, choice.gain)
    *before, last = prior.std
    std = np.sqrt(np.array([[choice.gain], [choice.noise_gain]]) / UNITS)  # a row for each output
    weight = np.broadcast_to(std, params[-1]["weight"].shape).astype(np.float32)
    return bbb.priors.Normal(0.0, type(params)([*before, {**last, "weight": weight}]))


GAUSSIAN_PROCESS = (("sklearn.gaussian_process", "scikit-learn"),)
CONTENDERS = {
    "bbb": Contender(bbb_default, "`BayesianMLPRegressor()`"),
    "bbb fit": Contender(bbb_fit, "the command `bbb fit`"),
    "bbb mean_field": Contender(bbb_mean_field, '`BayesianMLPRegressor(posterior="mean_field")`'),
    "GP": Contender(gaussian_process, "scikit-learn's, with a length scale for each column", GAUSSIAN_PROCESS),
    "GP one length": Contender(one_length, "the same with one length scale", GAUSSIAN_PROCESS),
    "NGBoost": Contender(ngboost, "boosted trees, Normal", (("ngboost", "ngboost"),)),
    "MAPIE": Contender(
        mapie, "CV+ over scikit-learn's MLPRegressor: no distribution", (("mapie.regression", "mapie"),)
    ),
    "deep ensemble": Contender(deep_ensemble, "5 networks of a mean and a variance"),
}
