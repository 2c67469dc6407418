"""The predictive: which draws they are, whatever the memory, the number of rows and the order of the rows."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.predictive.plan import plan_of

KEY = jax.random.key(2)
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 5, bias=False), bbb.nn.tanh, bbb.nn.linear(5, 2, bias=False))


def model_of(dtype="float32"):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), NETWORK.init(jax.random.key(0)))
    return bbb.bayesianize(
        NETWORK.apply,
        params,
        prior=bbb.priors.Normal(0.0, 1.0),
        likelihood=bbb.likelihoods.Gaussian(0.5),
        std=0.3,
    )


def least_memory(model, x, draws):
    with pytest.raises(bbb.errors.InputError, match="memory of at least") as caught:
        bbb.predict(KEY, model, x, draws=draws, memory=1)
    return int(re.search(r"at least ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))


def inputs(rows):
    return np.linspace(-2, 2.1, rows)[:, None] if rows > 1 else np.array([[0.7]])


def test_draw_i_is_the_network_at_the_folded_key(dtype):
    model, x = model_of(dtype), jnp.asarray(inputs(7), dtype)
    draws = bbb.draws(KEY, model, x, draws=40)
    assert draws.shape == (40, 7, 2)
    assert draws.dtype == dtype
    forward = jax.jit(
        lambda i: bbb.forwards.weight_sampling(NETWORK.apply)(jax.random.fold_in(KEY, i), model.posterior, x)
    )
    expected = np.stack([forward(i) for i in range(40)])
    np.testing.assert_allclose(draws, expected, rtol=1e2 * np.finfo(dtype).eps, atol=1e2 * np.finfo(dtype).eps)


def test_the_first_of_more_draws_are_the_same_draws():
    few, many = (np.asarray(bbb.draws(KEY, model_of(), inputs(7), draws=n)) for n in (40, 100))
    np.testing.assert_array_equal(many[:40], few)


def test_another_key_gives_other_draws():
    model, x = model_of(), inputs(7)
    one, other = (np.asarray(bbb.draws(key, model, x, draws=40)) for key in (KEY, jax.random.key(3)))
    assert np.mean(one == other) < 0.01


def test_memory_changes_not_one_bit():
    model, x = model_of(), inputs(20)
    sizes = ["512MB", "64MB", 4_000_000, least_memory(model, x, 400)]
    bands = [bbb.predict(KEY, model, x, draws=400, levels=(0.9,), memory=size) for size in sizes]
    draws = [np.asarray(bbb.draws(KEY, model, x, draws=400, memory=size)) for size in sizes]
    for band, sample in zip(bands[1:], draws[1:], strict=True):
        np.testing.assert_array_equal(sample, draws[0])
        for got, want in ((band.f, bands[0].f), (band.y, bands[0].y)):
            np.testing.assert_array_equal(got.mean, want.mean)
            np.testing.assert_array_equal(got.std, want.std)
            np.testing.assert_array_equal(got.interval(0.9), want.interval(0.9))
            np.testing.assert_array_equal(got.mcse_mean, want.mcse_mean)


@pytest.mark.parametrize("rows", [1, 7, 300, 1025])
def test_any_number_of_rows_is_answered_row_by_row(rows):
    model, x = model_of(), inputs(rows)
    draws = np.asarray(bbb.draws(KEY, model, x, draws=40), "float64")
    band = bbb.predict(KEY, model, x, draws=40)
    assert draws.shape == (40, rows, 2)
    np.testing.assert_allclose(band.f.mean, draws.mean(0), atol=1e-5)
    np.testing.assert_allclose(band.f.std, draws.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(band.f.quantile(0.25), np.quantile(draws, 0.25, axis=0), rtol=1e-4, atol=1e-5)
    assert band.y.quantile(0.25).shape == (rows, 2)


def test_a_row_has_the_same_answer_alone_and_among_others():
    model, x = model_of(), inputs(300)
    together = np.asarray(bbb.draws(KEY, model, x, draws=40))
    for i in (0, 123, 299):
        alone = np.asarray(bbb.draws(KEY, model, x[i : i + 1], draws=40))
        np.testing.assert_allclose(alone[:, 0], together[:, i], rtol=1e-5, atol=1e-5)  # another program, to rounding


def test_the_order_of_the_rows_does_not_matter():
    model, x = model_of(), inputs(300)
    order = np.random.default_rng(0).permutation(300)
    straight, shuffled = (bbb.predict(KEY, model, rows, draws=40) for rows in (x, x[order]))
    for a, b in ((straight.f, shuffled.f), (straight.y, shuffled.y)):
        np.testing.assert_allclose(a.mean[order], b.mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a.std[order], b.std, rtol=1e-5)
        np.testing.assert_allclose(a.quantile(0.25)[order], b.quantile(0.25), rtol=1e-4, atol=1e-5)


def test_outputs_may_have_any_number_of_axes():
    def apply(w, x):
        return w[None] * x[:, :, None]

    for shape, x in (((3, 2, 4), np.ones((3, 2))), ((3, 5, 4), np.ones((3, 5)))):
        model = bbb.bayesianize(
            apply, jnp.ones((1, 4)), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0), std=0.3
        )
        band = bbb.predict(KEY, model, x, draws=16)
        assert band.f.mean.shape == band.y.interval(0.5).upper.shape == shape


def test_answers_are_numpy_arrays():
    band = bbb.predict(KEY, model_of(), inputs(7), draws=40)
    for array in (band.f.mean, band.f.std, band.y.std, band.f.mcse_mean, *band.y.interval(0.5)):
        assert isinstance(array, np.ndarray)


def test_at_most_eight_programs_serve_a_hundred_numbers_of_rows(caplog):
    def line(w, x):  # a network of its own, so that no program is left over from another test
        return w * x

    model = bbb.bayesianize(line, jnp.ones(()), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(1.0))
    bbb.predict(KEY, model_of(), inputs(1), draws=4, levels=(0.9,))  # compiles the small things of any prediction
    with jax.log_compiles():
        for rows in (*range(1, 80), *range(100, 2200, 100)):
            bbb.predict(KEY, model, np.ones((rows, 1)), draws=4, levels=(0.9,))
    messages = [record.getMessage() for record in caplog.records]
    programs = Counter(m.split()[4] for m in messages if m.startswith("Finished XLA compilation of"))
    assert 0 < programs.total() <= 8, programs


def test_a_memory_that_is_too_small_says_how_much_is_needed():
    model, x = model_of(), inputs(7)
    with pytest.raises(bbb.errors.InputError) as caught:
        bbb.predict(KEY, model, x, draws=10_000, memory="10KB")
    message = str(caught.value)
    assert "for 10,000 draws of a network of 15 weights, got 10,000. Pass more memory or fewer draws." in message
    needed = least_memory(model, x, 10_000)
    assert f"memory of at least {needed:,} bytes" in message
    assert bbb.predict(KEY, model, x, draws=10_000, memory=needed).draws == 10_000
    with pytest.raises(bbb.errors.InputError, match="memory of at least"):
        bbb.predict(KEY, model, x, draws=10_000, memory=needed - 1)


def test_few_rows_are_not_held_as_many():
    """What is held, and kept, is of the size of the data: for 300 rows of a wide network no tile of 1280."""
    wide = bbb.nn.sequential(bbb.nn.linear(1, 1000), bbb.nn.relu, bbb.nn.linear(1000, 1))
    model = bbb.bayesianize(
        wide.apply, wide.init(KEY), prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.5)
    )

    def plan(rows, draws=100, memory="512MB", method="draws"):
        return plan_of(KEY, model, inputs(rows), draws, "independent", memory, method)

    assert {rows: plan(rows).tile for rows in ROWS} == ROWS
    assert plan(300, 10_000, "100MB").keeps  # 13 MB, of a quarter of 100
    assert not plan(300, 10_000, "100MB", "last_layer").keeps  # a mean and a variance of each
    assert not plan(1_000, 10_000, "100MB").keeps


ROWS = {5: 8, 60: 64, 65: 320, 300: 320, 321: 1280, 5_000: 1280}
"""Numbers of rows, and how many are held at once."""
