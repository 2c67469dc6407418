"""The ten tables of `benchmarks.tabular`: rows to learn from, and rows to score on, which are drawn apart from them."""

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np

from bbb import tasks

TEST_ROWS = 1_000


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a task: x (rows, columns), y (rows,), in original units."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def first(self, rows: int, test_rows: int) -> Self:
        """Return the task with the first rows alone."""
        return type(self)(self.x[:rows], self.y[:rows], self.x_test[:test_rows], self.y_test[:test_rows])


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: `make(seed, test_rows)`, and what it is, in a line."""

    make: Callable[[int, int], Rows]
    about: str

    def rows(self, seed: int, test_rows: int = TEST_ROWS) -> Rows:
        """Return the rows of a seed, of which those for training do not depend on the number for testing."""
        return self.make(seed, test_rows)


# Tables of scikit-learn's


def _friedman(which: int, noise: float) -> Callable[[int, int], Rows]:
    def make(seed: int, test_rows: int) -> Rows:
        from sklearn import datasets

        simulate = getattr(datasets, f"make_friedman{which}")
        random = np.random.RandomState(seed)  # what scikit-learn takes
        x, y, x_test, y_test = (
            part for rows in (300, test_rows) for part in simulate(rows, noise=noise, random_state=random)
        )
        return Rows(x, y, x_test, y_test)

    return make


def _diabetes(seed: int, test_rows: int) -> Rows:
    """Return 300 of the 442 patients to learn from, and the others for testing."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:300], order[300:][:test_rows]
    return Rows(x[train], y[train], x[test], y[test])


# Simulated ones


Noise = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def constant(std: float) -> Noise:
    """Return Gaussian noise of one standard deviation."""
    return lambda rng, x: std * rng.standard_normal(len(x))


def _uniform(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, shape)


def beside_the_gap(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw x from [−1, −0.4] and [0.4, 1], half of them from each on average."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.4, 1.0, shape)


def _simulated(
    rows: int, columns: int, mean: Callable[[np.ndarray], np.ndarray], noise: Noise, seen: Callable = _uniform
) -> Callable[[int, int], Rows]:
    """Return a task of x in [−1, 1]: uniform, or in training as `seen` draws it."""

    def make(seed: int, test_rows: int) -> Rows:
        train, test = np.random.default_rng(seed).spawn(2)
        x, x_test = seen(train, (rows, columns)), _uniform(test, (test_rows, columns))
        return Rows(x, mean(x) + noise(train, x), x_test, mean(x_test) + noise(test, x_test))

    return make


def _quintic(seed: int, test_rows: int) -> Rows:
    """Return the demo's rows, not in the order of x: who holds out the last of them is not asked to extrapolate."""
    made = tasks.regression(seed, rows=500, test_rows=test_rows)
    order = np.random.default_rng(seed).permutation(len(made.x))
    return Rows(made.x[order], made.y[order, 0], made.x_test, made.y_test[:, 0])


def _wave(x: np.ndarray) -> np.ndarray:
    return np.sin(4 * x[:, 0]) + x[:, 0]


def _three(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]


def _slope(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0]) + x[:, 1]


def noise_std(x: np.ndarray) -> np.ndarray:
    """Compute the standard deviation of the noise that depends on the inputs."""
    return 0.05 + 0.4 * np.abs(x[:, 0])


TASKS = {
    "friedman1": Task(_friedman(1, 1.0), "Friedman 1: 300 rows, 10 columns of which 5 matter, noise 1"),
    "friedman2": Task(_friedman(2, 125.0), "Friedman 2: 300 rows, 4 columns, noise 125"),
    "friedman3": Task(_friedman(3, 0.1), "Friedman 3: 300 rows, 4 columns, noise 0.1"),
    "diabetes": Task(_diabetes, "Diabetes: 300 of 442 rows, 10 columns"),
    "line": Task(_simulated(50, 1, lambda x: x[:, 0], constant(0.1)), "y = x: 50 rows, noise 0.1"),
    "quintic": Task(_quintic, "The quintic of the demo: 500 rows, uniform noise of standard deviation 0.58"),
    "gap": Task(
        _simulated(100, 1, _wave, constant(0.1), beside_the_gap),
        "A gap: sin(4x) + x, 100 rows with |x| in 0.4 to 1, tested on all of [−1, 1], noise 0.1",
    ),
    "tails": Task(
        _simulated(500, 3, _three, lambda rng, x: 0.2 * rng.standard_t(3, len(x))),
        "Heavy tails: 500 rows, 3 columns, noise 0.2 times Student's t of 3 degrees of freedom",
    ),
    "hetero": Task(
        _simulated(5_000, 2, _slope, lambda rng, x: noise_std(x) * rng.standard_normal(len(x))),
        "Noise that depends on the inputs: 5,000 rows, 2 columns, standard deviation 0.05 + 0.4·|x₀|",
    ),
    "useless": Task(
        _simulated(400, 23, _three, constant(0.2)),
        "20 useless columns: 400 rows, 23 columns, sin(3x₀) + x₁·x₂, noise 0.2",
    ),
}
