"""The pictures show what they are asked to, on the axes they are given."""

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import bbb
from bbb import metrics
from bbb.plots.style import LINES


@pytest.fixture(scope="module")
def fitted():
    network = bbb.nn.sequential(bbb.nn.linear(1, 8), bbb.nn.relu, bbb.nn.linear(8, 1))
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.5, learn=True),
    )
    x = np.linspace(-1, 1, 20)[::-1, None]
    model, history = bbb.fit(jax.random.key(1), model, x, np.sin(3 * x), steps=30)
    return x, bbb.predict(jax.random.key(2), model, x, draws=40), history


def test_band_draws_mean_band_dots_and_target_in_the_order_of_x(fitted):
    x, predictive, _ = fitted
    given = Figure().add_subplot()
    ax = bbb.plots.band(x, predictive, data=(x, np.sin(3 * x)), target=np.sin(3 * x), ax=given)
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
    ax = bbb.plots.band(x, predictive, observation=True, ax=Figure().add_subplot())
    assert sum(line.get_linestyle() == ":" for line in ax.get_lines()) == 2
    shades = [shade.get_paths()[0].vertices[:, 1] for shade in ax.collections]
    lower, upper = predictive.y.sigma_interval(3)
    assert len(shades) == 2  # of the function, and of an observation
    assert np.isclose(min(shade.min() for shade in shades), lower.min())
    assert np.isclose(max(shade.max() for shade in shades), upper.max())


def test_band_makes_axes_of_its_own():
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    network = bbb.nn.linear(1, 1)
    model = bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
    )
    x = np.zeros((3, 1))
    ax = bbb.plots.band(x, bbb.predict(jax.random.key(0), model, x, draws=5))
    assert ax.figure is plt.gcf()
    plt.close("all")


def test_band_refuses_two_outputs_or_inputs(fitted):
    _, predictive, _ = fitted
    with pytest.raises(bbb.errors.ShapeError, match=r"x to be one column, .* got shape \(20, 2\)"):
        bbb.plots.band(np.zeros((20, 2)), predictive, ax=Figure().add_subplot())


def test_training_draws_both_terms_with_their_units(fitted):
    history = fitted[2]
    ax = bbb.plots.training(history, ax=Figure().add_subplot())
    left, right = ax.figure.axes
    np.testing.assert_array_equal(left.get_lines()[0].get_ydata(), history.data_term)
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), history.kl)
    assert "nats" in left.get_ylabel()
    assert "nats" in right.get_ylabel()


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_fan_nests_its_intervals_around_the_median_in_the_order_of_x(fitted, ax):
    x, predictive, _ = fitted
    assert bbb.plots.fan(x, predictive.y, levels=(0.5, 0.9), data=(x, np.sin(3 * x)), ax=ax) is ax
    wide, narrow = ax.collections
    assert (wide.get_label(), narrow.get_label()) == ("90 %", "50 %")
    assert np.mean(to_rgb(wide.get_facecolor()[0, :3])) > np.mean(to_rgb(narrow.get_facecolor()[0, :3]))
    for shade, level in ((wide, 0.9), (narrow, 0.5)):
        assert np.isclose(shade.get_paths()[0].vertices[:, 1].max(), predictive.y.interval(level).upper.max())
    np.testing.assert_array_equal(lines_of(ax)["median"].get_ydata(), predictive.y.quantile(0.5)[::-1, 0])
    assert "observations" in lines_of(ax)


def test_predicted_against_observed_counts_what_its_bars_miss(fitted, ax):
    predictive = fitted[1]
    y = np.asarray(predictive.y.mean, "float64").copy()
    y[:3] += 100
    assert bbb.plots.predicted_against_observed(y, predictive.y, ax=ax) is ax
    _, labels = ax.get_legend_handles_labels()
    assert labels == ["95 % interval, 17 observations inside", "95 % interval, 3 observations outside"]
    inside, outside = (container.lines[0] for container in ax.containers)
    np.testing.assert_array_equal(outside.get_xdata(), y[:3, 0])
    assert inside.get_marker() != outside.get_marker()


def test_calibration_draws_the_observed_coverage_and_what_chance_does(ax):
    pit = np.linspace(0.2, 0.8, 50)
    assert bbb.plots.calibration(pit, levels=(0.5, 0.9), ax=ax) is ax
    np.testing.assert_allclose(lines_of(ax)["observed"].get_xdata(), [50, 90])
    np.testing.assert_allclose(lines_of(ax)["observed"].get_ydata(), 100 * metrics.observed_coverage(pit, (0.5, 0.9)))
    ends = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(ends.min(), 50 - 196 * np.sqrt(0.25 / 50))


def test_the_pit_histogram_of_even_values_is_flat(ax):
    assert bbb.plots.pit_histogram(np.linspace(0.005, 0.995, 100), bins=4, ax=ax) is ax
    (bars,) = (patch for patch in ax.patches if hasattr(patch, "get_data"))
    np.testing.assert_allclose(bars.get_data().values, 1.0)


def test_reliability_draws_the_bins_that_hold_rows(ax):
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.55, 0.45]])
    assert bbb.plots.reliability(metrics.reliability([0, 0, 0, 1], p, bins=2), ax=ax) is ax
    (dots,) = (part for part in ax.collections if hasattr(part, "get_sizes") and len(part.get_sizes()))
    np.testing.assert_allclose(dots.get_offsets(), [[100 * (0.9 + 0.9 + 0.6 + 0.55) / 4, 50]])


def two_layers():
    mean = {"in": {"w": np.array([1.0, 10.0], "float32")}, "out": {"w": np.ones(2, "float32"), "b": None}}
    std = {"in": {"w": np.log(np.ones(2, "float32"))}, "out": {"w": np.log(np.full(2, 0.1, "float32")), "b": None}}
    return bbb.MeanField(mean, std)


def test_signal_to_noise_draws_each_layer_and_all_of_them(ax):
    assert bbb.plots.signal_to_noise(two_layers(), ax=ax) is ax
    assert list(lines_of(ax)) == ["all layers (4 weights)", "layer in (2 weights)", "layer out (2 weights)"]
    every = lines_of(ax)["all layers (4 weights)"]
    np.testing.assert_allclose(every.get_xdata(), [0, 10, 10, 10], atol=1e-5)
    np.testing.assert_allclose(every.get_ydata(), [25, 50, 75, 100])
    density = bbb.plots.signal_to_noise(two_layers(), cumulative=False, ax=Figure().add_subplot())
    assert len(density.patches) == 3


def test_weight_density_draws_each_layer_over_the_prior(ax):
    posterior = bbb.MeanField.around({"a": np.zeros(5, "float32"), "b": np.ones(1, "float32")}, 0.5)
    assert bbb.plots.weight_density(posterior, bbb.priors.Normal(0.0, 0.5), ax=ax) is ax
    lines = lines_of(ax)
    assert list(lines) == ["prior", "layer a", "layer b"]
    prior, alike = lines["prior"].get_ydata(), lines["layer a"].get_ydata()
    np.testing.assert_allclose(alike, prior, rtol=1e-3, atol=1e-4)  # the posterior of layer a is the prior
    values = lines["prior"].get_xdata()
    want = np.exp(-0.5 * (values / 0.5) ** 2) / (0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(prior, want, rtol=1e-4)


def test_weight_density_draws_a_prior_for_each_layer_where_they_differ(ax):
    posterior = bbb.MeanField.around({"a": np.zeros(5, "float32"), "b": np.ones(1, "float32")}, 0.5)
    bbb.plots.weight_density(posterior, bbb.priors.Normal(0.0, {"a": 0.5, "b": 2.0}), ax=ax)
    assert list(lines_of(ax)) == ["layer a: posterior", "layer a: prior", "layer b: posterior", "layer b: prior"]


def test_weight_density_knows_every_prior(ax):
    posterior = bbb.MeanField.around(
        {"a": np.zeros(5, "float32"), "b": np.ones(1, "float32")}, 0.5, {"a": True, "b": False}
    )
    for prior in (bbb.priors.Laplace(0.0, 0.1), bbb.priors.ScaleMixture(0.5, 0.3, 0.1), bbb.priors.EmpiricalNormal()):
        axes = bbb.plots.weight_density(posterior, prior, ax=Figure().add_subplot())
        line = lines_of(axes)["prior"]
        assert 0.97 < np.trapezoid(line.get_ydata(), line.get_xdata()) < 1.01


def ensemble():
    """The posterior of `two_layers`, and another whose means are ten times as large."""
    first = two_layers()
    second = bbb.MeanField(jax.tree.map(lambda m: np.float32(10) * m, first.mean), first.log_std)
    return [first, second], bbb.posteriors.Ensemble(jax.tree.map(lambda *leaves: np.stack(leaves), first, second))


def test_signal_to_noise_draws_all_members_thick_and_each_thin(ax):
    members, both = ensemble()
    bbb.plots.signal_to_noise(both, ax=ax)
    named = ["all layers (4 weights in each of 2 members)", "layer in (2 weights in each of 2 members)"]
    assert [name for name in lines_of(ax) if not name.startswith("_")][:2] == named
    thick = lines_of(ax)[named[0]]
    np.testing.assert_allclose(thick.get_xdata(), [0, 10, 10, 10, 10, 20, 20, 20], atol=1e-5)
    np.testing.assert_allclose(thick.get_ydata(), np.linspace(12.5, 100, 8))
    thin = [line for line in ax.get_lines() if line.get_linewidth() < 1 and len(line.get_xdata())]
    alone = [bbb.plots.signal_to_noise(member, ax=Figure().add_subplot()).get_lines() for member in members]
    expected = [line for lines in zip(*alone, strict=True) for line in lines]  # of each layer, each member
    for found, line in zip(thin, expected, strict=True):
        np.testing.assert_array_equal(found.get_xydata(), line.get_xydata())
        assert found.get_color() == line.get_color()
    assert "thin: each of the 2 members" in lines_of(ax)
    density = bbb.plots.signal_to_noise(both, cumulative=False, ax=Figure().add_subplot())
    assert len(density.patches) == 3 + 2


def test_weight_density_draws_the_mixture_of_the_members_thick_and_each_thin(ax):
    members, both = ensemble()
    bbb.plots.weight_density(both, bbb.priors.Normal(0.0, 0.5), ax=ax)
    lines = lines_of(ax)
    assert [name for name in lines if not name.startswith("_")] == [
        *("prior", "layer in", "layer out", "thin: each of the 2 members")
    ]
    thin = [line.get_ydata() for line in ax.get_lines() if line.get_linewidth() < 1 and len(line.get_xdata())]
    for i, name in enumerate(("layer in", "layer out")):
        np.testing.assert_allclose(lines[name].get_ydata(), np.mean(thin[2 * i : 2 * i + 2], axis=0), rtol=1e-6)
    width = np.diff(lines["prior"].get_xdata())[0]
    np.testing.assert_allclose([np.sum(line) * width for line in thin], 1, rtol=0.01)
    values = lines["prior"].get_xdata()
    for k, place in ((0, 2), (1, 3)):  # of the layer "out", whose weights have the mean 1, or 10, and a std of 0.1
        assert abs(np.average(values, weights=thin[place]) - np.mean(members[k].mean["out"]["w"])) < width / 2


def test_a_prior_fitted_to_each_member_is_averaged_over_them(ax):
    members, both = ensemble()
    bbb.plots.weight_density(both, bbb.priors.EmpiricalNormal(), ax=ax)
    values, found = lines_of(ax)["layer in: prior"].get_xydata().T
    stds = [float(bbb.priors.EmpiricalNormal().fitted(member).std["in"]["w"]) for member in members]
    want = np.mean([np.exp(-0.5 * (values / s) ** 2) / (s * np.sqrt(2 * np.pi)) for s in stds], axis=0)
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-30)


def test_pruning_draws_the_curve_and_where_it_began(ax):
    assert bbb.plots.pruning([0, 0.5, 0.9], [98.0, 97.0, 40.0], measure="accuracy, %", ax=ax) is ax
    start, curve = ax.get_lines()
    assert start.get_label() == "98 with 0 % pruned"
    np.testing.assert_allclose(curve.get_xdata(), [0, 50, 90])
    assert ax.get_ylabel() == "accuracy, %"


def test_neighbouring_lines_differ_in_lightness_and_in_dashes():
    lightness = [np.dot(to_rgb(color), [0.2126, 0.7152, 0.0722]) for color, _ in LINES]
    assert np.abs(np.diff(lightness)).min() > 0.1
    assert len({str(dashes) for _, dashes in LINES}) == len(LINES)


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (
            lambda p: bbb.plots.fan(np.zeros(20), p.y, levels=(0.9, 0.5)),
            bbb.errors.InputError,
            "levels in rising order",
        ),
        (lambda p: bbb.plots.fan(np.zeros((20, 2)), p.y), bbb.errors.ShapeError, "x to be one column"),
        (lambda p: bbb.plots.predicted_against_observed(np.zeros(3), p.y), bbb.errors.ShapeError, "the 20 rows of x"),
        (lambda p: bbb.plots.calibration([2.0]), bbb.errors.InputError, "pit inside [0, 1], got 2"),
        (lambda p: bbb.plots.pit_histogram([-1.0]), bbb.errors.InputError, "pit inside [0, 1], got -1"),
        (lambda p: bbb.plots.pruning([0, 1], [0.5]), bbb.errors.ShapeError, "the 2 rows of x"),
        (
            lambda p: bbb.plots.weight_density(two_layers(), None),
            bbb.errors.InputError,
            "a prior such as bbb.priors.Normal",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_axes_are_made(fitted, monkeypatch, draw, error, text):
    monkeypatch.setattr("matplotlib.pyplot.subplots", lambda **_: pytest.fail("axes were made"))
    with pytest.raises(error) as caught:
        draw(fitted[1])
    assert text in str(caught.value)
