"""A number that is not finite stops training within a chunk, is named, and leaves the last good model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bbb
from bbb.objectives.objective import Cost
from bbb.train import nonfinite

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2)).astype(np.float32)
Y = X[:, :1]
STEPS = 40
BAD = 7


def apply(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"]


def model():
    params = {"first": jnp.ones((2, 3)), "last": jnp.ones((3, 1))}
    return bbb.bayesianize(apply, params, prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(learn=True))


def counting(update):
    """Make an optimiser of plain steps that counts, and changes what it gives from one step on."""

    def init(params):
        return {"count": jnp.zeros((), jnp.int32), "velocity": jax.tree.map(jnp.zeros_like, params)}

    def step(updates, state, params=None):
        del params
        moved = jax.tree.map(lambda g: -1e-3 * g, updates)
        moved, velocity = update(state["count"], moved, state["velocity"])
        return moved, {"count": state["count"] + 1, "velocity": velocity}

    return optax.GradientTransformation(init, step)


def bad_from(count, tree, value, *, once=False):
    when = count == BAD if once else count >= BAD
    return jax.tree.map(lambda leaf: jnp.where(when, jnp.asarray(value, leaf.dtype), leaf), tree)


PLAIN = counting(lambda count, moved, velocity: (moved, velocity))


def gradient_fault(outputs):
    """Be 0, with a gradient that is infinite where |outputs| is 0."""
    return jnp.sum(jnp.sqrt(jnp.square(outputs) * 0.0)) * 1.0


def faulty_gradient(model, outputs, y, row_weights, num_data, kl_weight):
    cost = bbb.objectives.elbo_cost(model, outputs, y, row_weights, num_data, kl_weight)
    return Cost(cost.total + gradient_fault(outputs), cost.data_term, cost.kl)


def test_a_bad_update_is_named_with_the_step_that_made_it():
    optimizer = counting(lambda count, moved, velocity: (bad_from(count, moved, np.nan), velocity))
    with pytest.raises(
        bbb.errors.NonFiniteLossError, match=r"at step 7 \(from 0\), first in the update of .*mean/first"
    ) as caught:
        bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=optimizer)
    good, history = bbb.fit(KEY, model(), X, Y, steps=BAD, optimizer=PLAIN)
    assert caught.value.step == BAD
    np.testing.assert_array_equal(caught.value.history.loss, history.loss)
    for a, b in zip(jax.tree.leaves(caught.value.model), jax.tree.leaves(good), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_number_is_blamed_that_is_finite_when_it_is_looked_at(monkeypatch):
    """As where another program rounds a number that is near overflow to the other side."""
    monkeypatch.setattr(nonfinite, "_first_bad", lambda found, recipe: None)
    optimizer = counting(lambda count, moved, velocity: (bad_from(count, moved, np.nan), velocity))
    message = (
        r"got NaN or infinity at step 7 \(from 0\), though all its numbers are finite when it is computed by itself\."
    )
    with pytest.raises(bbb.errors.NonFiniteLossError, match=message):
        bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=optimizer)


def test_a_bad_state_of_the_optimizer_is_found_though_the_parameters_are_finite():
    """As when a second moment overflows: updates become 0, and training stands still in silence."""
    optimizer = counting(lambda count, moved, velocity: (moved, bad_from(count, velocity, np.inf)))
    with pytest.raises(
        bbb.errors.NonFiniteLossError, match=r"at step 7 \(from 0\), first in the optimiser's state velocity"
    ) as caught:
        bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=optimizer)
    assert len(caught.value.history.loss) == caught.value.step == BAD


def test_a_bad_gradient_of_a_finite_loss_is_named():
    with pytest.raises(
        bbb.errors.NonFiniteLossError, match=r"at step 0 .*first in the gradient of posterior/"
    ) as caught:
        bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=PLAIN, objective=faulty_gradient)
    assert caught.value.history.loss.shape == (0,)


def test_a_state_that_begins_infinite_is_no_fault():
    optimizer = optax.chain(optax.adam(1e-3), optax.contrib.reduce_on_plateau())
    state = optimizer.init({"w": jnp.zeros(2)})
    assert not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state))

    class WithValue:
        init = staticmethod(optimizer.init)

        @staticmethod
        def update(updates, state, params):
            return optimizer.update(updates, state, params, value=jnp.zeros(()))

    bbb.fit(KEY, model(), X, Y, steps=5, optimizer=WithValue())


def test_a_loss_that_overflows_is_named_with_the_step_that_met_it():
    with pytest.raises(
        bbb.errors.NonFiniteLossError, match=r"at step 1 \(from 0\), first in the (KL|data term)"
    ) as caught:
        bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=optax.sgd(1e30))
    assert caught.value.history.loss.shape == (1,)
    for a, b in zip(jax.tree.leaves(caught.value.model), jax.tree.leaves(model()), strict=True):
        np.testing.assert_array_equal(a, b)  # the last model whose loss was finite


def test_bad_data_are_refused_before_training():
    for x, y in ((np.where(X > 1, np.nan, X), Y), (X, np.where(Y > 1, np.inf, Y))):
        with pytest.raises(bbb.errors.NonFiniteInputError):
            bbb.fit(KEY, model(), x, y, steps=STEPS)


# --- skipping --------------------------------------------------------------------------------------------------------


def test_a_skipped_step_changes_nothing_and_is_counted(dtype):
    optimizer = counting(lambda count, moved, velocity: (bad_from(count, moved, np.nan), velocity))
    with pytest.raises(
        bbb.errors.NonFiniteLossError, match=r"11 times in a row, the last at step 17 \(from 0\)"
    ) as caught:
        bbb.fit(
            KEY, model(), X, Y, steps=STEPS, optimizer=optimizer, objective=bbb.train.Objective(on_nonfinite="skip")
        )
    good, _ = bbb.fit(KEY, model(), X, Y, steps=BAD, optimizer=PLAIN)
    for a, b in zip(jax.tree.leaves(caught.value.model), jax.tree.leaves(good), strict=True):
        np.testing.assert_allclose(a, b, rtol=8 * np.finfo(dtype).eps)  # two programs, rounded differently
    np.testing.assert_array_equal(caught.value.history.skipped, np.arange(17) >= BAD)


def rarely(model, outputs, y, row_weights, num_data, kl_weight):
    """A cost that is NaN for some draws of the weights."""
    cost = bbb.objectives.elbo_cost(model, outputs, y, row_weights, num_data, kl_weight)
    return Cost(jnp.where(jnp.max(outputs) > 3.0, jnp.nan, cost.total), cost.data_term, cost.kl)


@pytest.mark.parametrize("restarts", [1, 2])
def test_skipping_goes_on_and_its_history_says_where(restarts):
    wide = bbb.bayesianize(
        apply,
        model().posterior.mean,
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(),
        std=1.0,
    )
    objective = bbb.train.Objective(rarely, on_nonfinite="skip")
    options = {"steps": 200, "objective": objective, "optimizer": optax.adam(1e-3)}
    if restarts > 1:
        options["restarts"] = bbb.train.Restarts(restarts, lambda key: wide.posterior.mean)
    trained, history = bbb.fit(KEY, wide, X, Y, **options)
    assert 1 < history.skipped.sum() < 150
    assert history.skipped.shape == history.loss.shape
    np.testing.assert_array_equal(history.skipped, np.isnan(history.loss))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))
    clean = history.without_skipped()
    assert np.isfinite(clean.loss).all()
    assert len(clean.loss) == len(clean.kl) == np.sum(~history.skipped.reshape(200, -1).any(axis=1))
    if restarts > 1:
        assert (history.skipped[:, 0] != history.skipped[:, 1]).any()  # each member skips its own
        np.testing.assert_array_equal(history.member(1).skipped, history.skipped[:, 1])


def test_skipping_nothing_is_training_as_ever():
    plain, history = bbb.fit(KEY, model(), X, Y, steps=STEPS, optimizer=PLAIN)
    skipping, counted = bbb.fit(
        KEY, model(), X, Y, steps=STEPS, optimizer=PLAIN, objective=bbb.train.Objective(on_nonfinite="skip")
    )
    assert history.skipped is None
    assert not counted.skipped.any()
    np.testing.assert_allclose(history.loss, counted.loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(skipping), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
