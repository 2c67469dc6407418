"""The pictures show what they are asked to, on the axes they are given."""

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import bbb


@pytest.fixture(scope="module")
def fitted():
    network = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.relu, bbb.nn.linear(8, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.prior.Normal(),
        likelihood=bbb.likelihood.Gaussian(0.5, learn=True),
    )
    x = np.linspace(-1, 1, 20)[::-1, None]
    model, history = bbb.fit(jax.random.key(1), model, x, np.sin(3 * x), steps=30)
    return x, bbb.predict(jax.random.key(2), model, x, draws=40), history


def test_band_draws_mean_band_dots_and_target_in_the_order_of_x(fitted):
    x, predictive, _ = fitted
    given = Figure().add_subplot()
    ax = bbb.plot.band(x, predictive, data=(x, np.sin(3 * x)), target=np.sin(3 * x), ax=given)
    assert ax is given
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"observations", "target", "mean"}
    np.testing.assert_array_equal(lines["mean"].get_ydata(), predictive.f.mean[::-1, 0])
    assert to_rgb(lines["mean"].get_color()) == to_rgb("navy")
    (shade,) = ax.collections
    lower, upper = predictive.f.sigma_interval(3.0)
    assert np.isclose(shade.get_paths()[0].vertices[:, 1].max(), upper.max())
    assert np.isclose(shade.get_paths()[0].vertices[:, 1].min(), lower.min())
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_legend() is not None


def test_band_of_an_observation_is_outlined_when_asked_for(fitted):
    x, predictive, _ = fitted
    ax = bbb.plot.band(x, predictive, observation=True, ax=Figure().add_subplot())
    assert sum(line.get_linestyle() == ":" for line in ax.get_lines()) == 2


def test_band_makes_axes_of_its_own():
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    network = bbb.nn.linear(1, 1)
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.prior.Normal(),
        likelihood=bbb.likelihood.Gaussian(),
    )
    x = np.zeros((3, 1))
    ax = bbb.plot.band(x, bbb.predict(jax.random.key(0), model, x, draws=5))
    assert ax.figure is plt.gcf()
    plt.close("all")


def test_band_refuses_two_outputs_or_inputs(fitted):
    _, predictive, _ = fitted
    with pytest.raises(bbb.ShapeError, match=r"x to be one column, .* got shape \(20, 2\)"):
        bbb.plot.band(np.zeros((20, 2)), predictive, ax=Figure().add_subplot())


def test_training_draws_both_terms_with_their_units(fitted):
    history = fitted[2]
    ax = bbb.plot.training(history, ax=Figure().add_subplot())
    left, right = ax.figure.axes
    np.testing.assert_array_equal(left.get_lines()[0].get_ydata(), history.data_term)
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), history.kl)
    assert "nats" in left.get_ylabel()
    assert "nats" in right.get_ylabel()
