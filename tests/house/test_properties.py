"""Hypothesis: whatever arrays are passed, a public function answers in finite numbers of the right shape, or refuses.

    python -m pytest tests/house/test_properties.py                a few examples of each
    python -m pytest -n0 -m slow tests/house/test_properties.py    at least 10,000 in all: some ten minutes of one core

Arrays come in all dtypes, strides (views turned over, cut and transposed) and magnitudes, of no rows, one, or many.
"""

import functools

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import bbb

KEY = jax.random.key(0)
FEW, MANY = 6, 900
"""Examples of a property: by default, and in the marked run, which has twelve properties."""

NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, 1))


@functools.cache
def model(likelihood=None):
    return bbb.bayesianize(
        NETWORK.apply,
        NETWORK.init(KEY),
        prior=bbb.priors.Normal(),
        likelihood=likelihood or bbb.likelihoods.Gaussian(0.5),
    )


# What is passed


DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", ">f8", ">i4"])


POWERS = st.integers(-30, 30)


def numbers(dtype):
    """Return numbers of a dtype, of magnitudes from 1e-30 to 1e30 and 0."""
    kind, width = np.dtype(dtype).kind, np.dtype(dtype).itemsize
    if kind != "f":
        return hnp.from_dtype(np.dtype(dtype))
    largest = 6e4 if width == 2 else float(np.float32(1e30))
    sizes = st.floats(-largest, largest, width=8 * width, allow_nan=False)
    powers = st.builds(lambda sign, power: float(np.float32(sign * 10.0**power)), st.sampled_from((-1, 1)), POWERS)
    return sizes if width == 2 else sizes | powers


def seen_otherwise(array, how):
    """Return the same numbers in memory of another layout."""
    if how == "turned over":
        return array[::-1, ::-1][::-1, ::-1]
    if how == "every second":
        return np.repeat(array, 2, axis=0)[::2]
    if how == "transposed":
        return np.asfortranarray(array)
    if how == "read-only":
        array.flags.writeable = False
    return jnp.asarray(array.astype(array.dtype.newbyteorder("="))) if how == "JAX's" else array


LAYOUTS = st.sampled_from(("as it is", "turned over", "every second", "transposed", "read-only", "JAX's"))


ROWS = st.integers(0, 70)


@st.composite
def tables(draw, columns=2, rows=ROWS, spoiled=True):
    """Return an array of rows, which may hold NaN or infinity, and whether every number of it is finite in float32."""
    dtype = draw(DTYPES)
    shape = (draw(rows), columns)
    array = draw(hnp.arrays(dtype, shape, elements=numbers(dtype), fill=st.nothing() if 0 in shape else None))
    if spoiled and array.size and array.dtype.kind == "f" and draw(st.integers(0, 4)) == 0:
        array = array.copy()
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    with np.errstate(over="ignore"):
        good = bool(np.isfinite(array.astype(np.float32)).all())
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        limits = np.iinfo("int32" if array.dtype.kind == "i" else "uint32")
        good = bool((array >= limits.min).all() and (array <= limits.max).all())
    layout = draw(LAYOUTS)
    assume(not (layout == "JAX's" and array.dtype.itemsize == 8))  # which JAX would change on the way
    return seen_otherwise(array, layout), good and shape[0] > 0


def property_of(*strategies):
    """Make a test of few examples, and one of many that is marked slow."""

    def make(function):
        def test(examples):
            done = []

            @functools.wraps(function)
            def counted(**values):
                function(**values)
                done.append(1)

            quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
            options = {"max_examples": examples, "deadline": None, "derandomize": True, "database": None}
            with jax.numpy_dtype_promotion("standard"):  # as users have it: whole numbers may meet the weights
                settings(**options, suppress_health_check=quiet)(given(*strategies)(counted))()
            assert len(done) >= 0.95 * examples  # not counted: those that `assume` turned down

        runs = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
        return pytest.mark.parametrize("examples", runs)(test)

    return make


def refused(call):
    """Tell whether a call is refused by name; any other error is the test's failure."""
    try:
        call()
    except bbb.errors.BBBError as error:
        assert str(error).startswith("Expected ")  # noqa: PT017 - and to be refused is allowed
        return True
    return False


# What answers


@property_of(tables())
def test_predict_answers_in_finite_numbers_or_refuses(given_x):
    x, good = given_x
    if not good:
        assert refused(lambda: bbb.predict(KEY, model(), x, draws=8))
        return
    made = bbb.predict(KEY, model(), x, draws=8, levels=(0.9,))
    for part in (made.f, made.y):
        for array in (part.mean, part.std, part.quantile(0.5), *part.interval(0.9), part.mcse_mean, part.mcse_std):
            assert array.shape == (len(x), 1)
    # a mean beyond the square root of the largest number has no variance in its dtype
    moderate = np.abs(np.asarray(x, float)).max() < 1e15
    assert not moderate or all(np.isfinite(part).all() for part in (made.f.mean, made.f.std, made.y.std))


@property_of(tables(), LAYOUTS)
def test_predict_does_not_see_how_rows_lie_in_memory(given_x, layout):
    x, good = given_x
    assume(good and np.abs(np.asarray(x, float)).max() < 1e15)
    again = seen_otherwise(np.array(x), layout)
    assume(np.dtype(again.dtype).newbyteorder("=") == np.dtype(x.dtype).newbyteorder("="))
    first, second = (bbb.draws(KEY, model(), rows, draws=4) for rows in (x, again))
    np.testing.assert_array_equal(first, second)


@property_of(tables(), st.integers(1, 3))
def test_the_draws_of_a_row_do_not_hang_on_other_rows(given_x, count):
    x, good = given_x
    assume(good and np.abs(np.asarray(x, float)).max() < 1e15)
    some = np.asarray(x)[:count]
    together, alone = (np.asarray(bbb.draws(KEY, model(), rows, draws=4)) for rows in (x, some))
    np.testing.assert_allclose(together[:, : len(some)], alone, rtol=1e-5, atol=1e-5)


@property_of(tables(), tables(columns=1))
def test_the_bound_is_one_number_or_refused(given_x, given_y):
    (x, x_good), (y, y_good) = given_x, given_y
    if not (x_good and y_good and len(x) == len(y)):
        assert refused(lambda: bbb.objectives.negative_elbo(KEY, model(), x, y))
        return
    value, parts = bbb.objectives.negative_elbo(KEY, model(), x, y)
    assert value.shape == parts.kl.shape == ()
    assert np.isfinite(parts.kl)
    moderate = max(np.abs(np.asarray(part, float)).max() for part in (x, y)) < 1e15
    assert not moderate or np.isfinite(value)


@property_of(tables(rows=st.integers(1, 12)), tables(columns=1, rows=st.integers(1, 12)))
def test_fit_gives_finite_parameters_or_refuses(given_x, given_y):
    (x, x_good), (y, y_good) = given_x, given_y
    size = min(len(x), len(y))  # few numbers of rows: each is a program
    size = 1 << (size.bit_length() - 1)
    x, y = x[:size], y[:size]
    made = []
    if not refused(lambda: made.append(bbb.fit(KEY, model(), x, y, steps=1, progress=False))):
        trained, history = made[0]
        assert history.loss.shape == (1,)
        assert np.isfinite(history.loss).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.posterior))
    else:
        moderate = max(np.abs(np.nan_to_num(np.asarray(part, float))).max() for part in (x, y)) < 1e15
        assert not (x_good and y_good and moderate)


@property_of(tables(columns=1), tables(columns=1), st.sampled_from((1e-30, 1e-3, 1.0, 1e3, 1e30)))
def test_scores_of_normals_are_finite_and_not_negative_or_refused(given_y, given_mean, std):
    (y, _), (mean, _) = given_y, given_mean
    made = []
    if refused(lambda: made.append(bbb.metrics.crps_normal(y, mean, std))):
        shapes = np.shape(y) != np.shape(mean) or len(y) == 0
        assert shapes or not (np.isfinite(np.asarray(y, float)).all() and np.isfinite(np.asarray(mean, float)).all())
        return
    assert made[0].shape == np.shape(y)
    assert np.isfinite(made[0]).all()
    distance = np.abs(np.asarray(y, float) - np.asarray(mean, float))
    assert (made[0] >= -1e-12 * (distance + std)).all()
    assert (made[0] <= distance + std).all()


@property_of(tables(columns=1), st.integers(1, 6), st.floats(0.01, 0.99))
def test_scores_of_draws_and_intervals_are_finite_or_refused(given_y, count, level):
    y, _ = given_y
    whole = len(y) > 0 and np.isfinite(np.asarray(y, float)).all()
    draws = np.stack([np.asarray(y, float) * (1 + 0.1 * k) for k in range(count)])
    calls = (
        lambda: bbb.metrics.crps_draws(y, draws),
        lambda: bbb.metrics.pit_draws(KEY, y, draws),
        lambda: bbb.metrics.interval_score(y, draws.min(axis=0), draws.max(axis=0), level),
    )
    for call in calls:
        made = []
        if refused(lambda call=call, made=made: made.append(call())):
            assert not whole
        else:
            assert made[0].shape == np.shape(y)
            assert np.isfinite(made[0]).all()


@property_of(hnp.arrays("f8", st.tuples(st.integers(0, 30), st.integers(1, 5)), elements=st.floats(0, 1e30)))
def test_classifiers_scores_lie_within_their_bounds_or_are_refused(weights):
    totals = weights.sum(axis=1, keepdims=True)
    assume(len(weights) == 0 or (totals > 0).all())
    p = weights / totals if len(weights) else weights
    y = np.arange(len(p)) % p.shape[1]
    made = []
    if refused(lambda: made.append((bbb.metrics.accuracy(y, p), bbb.metrics.brier(y, p)))):
        assert len(p) == 0
        return
    accuracy, brier = made[0]
    assert 0 <= accuracy <= 1
    assert ((brier >= 0) & (brier <= 2 + 1e-12)).all()
    assert 0 <= bbb.metrics.expected_calibration_error(y, p) <= 1
    entropy = bbb.metrics.predictive_entropy(p[None].astype(np.float32))
    assert all(np.isfinite(part).all() for part in entropy)
    assert (np.asarray(entropy.total) <= np.log(p.shape[1]) + 1e-5).all()


LIKELIHOODS = {
    "gaussian": bbb.likelihoods.Gaussian(0.5),
    "tiny": bbb.likelihoods.Gaussian(1e-15),
    "student": bbb.likelihoods.StudentT(2.0, 3.0),
    "poisson": bbb.likelihoods.Poisson(),
    "negative": bbb.likelihoods.NegativeBinomial(0.3),
    "bernoulli": bbb.likelihoods.Bernoulli(),
}


@property_of(
    st.sampled_from(sorted(LIKELIHOODS)),
    hnp.arrays("f4", st.just((4, 8, 1)), elements=st.floats(-1e4, 1e4, width=32)),
    hnp.arrays("f8", st.just((8, 1)), elements=st.floats(-1e30, 1e30) | st.integers(0, 50).map(float)),
)
def test_a_mixture_never_gives_nan(name, outputs, y):
    likelihood = LIKELIHOODS[name]
    made = []
    if not refused(lambda: made.append(bbb.mixture.log_score(likelihood, jnp.asarray(outputs), y))):
        assert made[0].shape == (8,)
        assert not np.isnan(made[0]).any()  # −inf where no draw can explain y, in its dtype
    below = np.asarray(bbb.mixture.cdf(likelihood, jnp.asarray(outputs), y))
    assert ((below >= 0) & (below <= 1 + 1e-5)).all()


TREES = st.recursive(
    hnp.arrays(
        "f4", hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.floats(-(2.0**50), 2.0**50, width=32)
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
    max_leaves=4,
)


@property_of(TREES, st.sampled_from((1e-15, 1e-6, 1.0, 1e15)), st.floats(0, 1))
def test_a_posterior_of_any_tree_has_a_divergence_and_can_be_pruned(tree, std, fraction):
    posterior = bbb.MeanField.around(jax.tree.map(jnp.asarray, tree), std)
    assert bbb.priors.kl(posterior, bbb.priors.Normal(0.0, 1e3)) >= 0
    assert float(bbb.priors.kl(posterior, bbb.priors.Normal(posterior.mean, posterior.std))) == pytest.approx(
        0, abs=1e-3
    )
    assert not np.isnan(bbb.posteriors.log_prob(posterior, posterior.mean))
    pruned = bbb.evaluate.prune(posterior, fraction)
    assert jax.tree.structure(pruned) == jax.tree.structure(posterior)
    weights = sum(leaf.size for leaf in jax.tree.leaves(pruned.mean))
    zeros = sum(int(np.sum(np.asarray(leaf) == 0)) for leaf in jax.tree.leaves(pruned.mean))
    assert zeros >= round(fraction * weights)


@property_of(tables(), tables(columns=1))
def test_standardised_columns_are_finite_or_refused(given_x, given_y):
    (x, _), (y, _) = given_x, given_y
    made = []
    if not refused(lambda: made.append(bbb.networks.standardize(NETWORK.apply, x, y))):
        wrapped = made[0]
        for part in (wrapped.x_mean, wrapped.x_std, wrapped.y_mean, wrapped.y_std):
            assert np.isfinite(part).all()
        assert min(*wrapped.x_std, *wrapped.y_std) > 0


CELLS = st.text(st.characters(codec="utf-8"), max_size=6) | st.floats().map(str) | st.integers().map(str)


@property_of(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), st.sampled_from(("\n", "\r\n", "\r")))
def test_any_text_is_a_table_of_finite_numbers_or_refused(lines, end):
    import tempfile
    from pathlib import Path

    from bbb.tables import csv

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_text(end.join(",".join(cells) for cells in lines), encoding="utf-8", newline="")
        made = []
        if not refused(lambda: made.append(csv.read(path))):
            read = made[0]
            assert np.isfinite(read.values).all()
            assert read.values.shape[1] == len(read.columns) == len(set(read.columns))
            assert len(read.values) >= 1


@pytest.mark.slow
def test_a_million_rows_are_predicted_and_scored():
    x = np.random.default_rng(0).normal(size=(1_000_000, 2)).astype(np.float32)
    made = bbb.predict(KEY, model(), x, draws=8, memory="256MB")
    assert made.f.mean.shape == (1_000_000, 1)
    assert np.isfinite(made.y.std).all()
    assert bbb.metrics.crps_normal(x[:, :1], made.y.mean, made.y.std).shape == (1_000_000, 1)


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1281])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8])
def test_every_number_of_rows_has_as_many_answers(rows, kind):
    x = np.arange(2 * rows).reshape(rows, 2).astype(kind) % 7
    with jax.numpy_dtype_promotion("standard"):
        made = bbb.predict(KEY, model(), x, draws=4)
    assert made.f.mean.shape == made.y.std.shape == (rows, 1)
    assert made.f.mean.dtype == np.float32
