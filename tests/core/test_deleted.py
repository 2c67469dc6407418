"""Arrays that were deleted, such as by donation, and numbers of 16 bits without range: named at every door."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import bbb

KEY = jax.random.key(1)
NETWORK = bbb.nn.sequential(bbb.nn.linear(2, 3), bbb.nn.tanh, bbb.nn.linear(3, 1))
PARAMS = NETWORK.init(jax.random.key(0))
PRIOR, NOISE = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.3, learn=True)
MODEL = bbb.bayesianize(NETWORK.apply, PARAMS, prior=PRIOR, likelihood=NOISE)
X, Y = jnp.ones((5, 2)), jnp.ones((5, 1))


def deleted(tree):
    """Copy a tree, and delete the copy's arrays, as donating them does."""
    copy = jax.tree.map(lambda leaf: jax.device_put(jnp.array(leaf, copy=True)), tree)
    for leaf in jax.tree.leaves(copy):
        leaf.delete()
    return copy


LOST_KEY = jax.random.key(1)
LOST_KEY.delete()
LOST_MODEL, LOST_PARAMS, LOST_X, LOST_Y = (deleted(tree) for tree in (MODEL, PARAMS, X, Y))
LOST = LOST_MODEL.posterior


def new(params=PARAMS, prior=PRIOR, likelihood=NOISE, **options):
    return bbb.bayesianize(NETWORK.apply, params, prior=prior, likelihood=likelihood, **options)


def fit(key=KEY, model=MODEL, x=X, y=Y, **options):
    return bbb.fit(key, model, x, y, steps=2, **options)


CALLS = {
    "bayesianize params": lambda folder: new(LOST_PARAMS),
    "bayesianize std": lambda folder: new(std=deleted(jnp.ones(()))),
    "bayesianize prior": lambda folder: new(prior=deleted(bbb.priors.Normal(jnp.zeros(()), jnp.ones(())))),
    "bayesianize likelihood": lambda folder: new(likelihood=deleted(NOISE)),
    "Normal": lambda folder: bbb.priors.Normal(0.0, deleted(jnp.ones(()))),
    "Normal.around": lambda folder: bbb.priors.Normal.around(LOST_PARAMS),
    "Gaussian": lambda folder: bbb.likelihoods.Gaussian(deleted(jnp.ones(()))),
    "relative_std": lambda folder: bbb.posteriors.relative_std(LOST_PARAMS),
    "fit key": lambda folder: fit(key=LOST_KEY),
    "fit model": lambda folder: fit(model=LOST_MODEL),
    "fit x": lambda folder: fit(x=LOST_X),
    "fit y": lambda folder: fit(y=LOST_Y),
    "fit validation": lambda folder: fit(validation=(X, LOST_Y)),
    "fit init": lambda folder: fit(restarts=bbb.train.Restarts(2, lambda key: LOST_PARAMS)),
    "fit kl_weight": lambda folder: fit(objective=bbb.train.Objective(kl_weight=deleted(jnp.ones(())))),
    "fit_each": lambda folder: bbb.train.fit_each(jax.random.split(KEY), [MODEL, LOST_MODEL], [X, X], [Y, Y], steps=2),
    "predict key": lambda folder: bbb.predict(LOST_KEY, MODEL, X),
    "predict model": lambda folder: bbb.predict(KEY, LOST_MODEL, X),
    "predict x": lambda folder: bbb.predict(KEY, MODEL, LOST_X),
    "predict moments": lambda folder: bbb.predict(KEY, LOST_MODEL, X, method="moments"),
    "draws": lambda folder: bbb.draws(KEY, LOST_MODEL, X, draws=2),
    "negative_elbo": lambda folder: bbb.objectives.negative_elbo(KEY, MODEL, X, LOST_Y),
    "diagnose": lambda folder: bbb.diagnose(LOST_MODEL, None, X, Y),
    "explain": lambda folder: bbb.forwards.explain(NETWORK.apply, LOST, X),
    "moments": lambda folder: bbb.moments.moments(NETWORK.apply)(LOST, X),
    "moments x": lambda folder: bbb.moments.moments(NETWORK.apply)(MODEL.posterior, LOST_X),
    "weight_sampling": lambda folder: bbb.forwards.weight_sampling(NETWORK.apply)(KEY, LOST, X),
    "flipout x": lambda folder: bbb.forwards.flipout(NETWORK.apply)(KEY, MODEL.posterior, LOST_X),
    "sample": lambda folder: bbb.posteriors.sample(KEY, LOST),
    "log_prob": lambda folder: bbb.posteriors.log_prob(MODEL.posterior, LOST_PARAMS),
    "kl": lambda folder: bbb.priors.kl(LOST, PRIOR),
    "prune": lambda folder: bbb.evaluate.prune(LOST, 0.1),
    "save": lambda folder: bbb.save(folder / "m.safetensors", LOST_MODEL),
    "export": lambda folder: bbb.serving.export(folder / "m.bbb", LOST_MODEL, X),
    "standardize": lambda folder: bbb.networks.standardize(NETWORK.apply, LOST_X, Y),
    "rmse": lambda folder: bbb.metrics.rmse(LOST_Y, Y),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_deleted_array_is_named_at_every_door(call, tmp_path):
    with pytest.raises(
        bbb.errors.InputError, match=r"got one of shape .* that was deleted, as jax\.jit deletes .* Pass a"
    ):
        CALLS[call](tmp_path)


def test_a_donated_array_is_deleted():
    given = jnp.array(X, copy=True)
    jax.jit(lambda x: x + 1, donate_argnums=0)(given)
    with pytest.raises(
        bbb.errors.InputError, match=r"Expected x to consist of arrays that still hold their values, got one"
    ):
        fit(x=given)


def cast(dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), PARAMS)


@pytest.mark.parametrize("kind", ["jax", "numpy"])
def test_float16_parameters_are_refused_by_what_they_cannot_hold(kind):
    params = cast("float16") if kind == "jax" else jax.tree.map(np.asarray, cast("float16"))
    message = r"params leaf '0/bias' to be float32, float64 or bfloat16, got dtype float16, whose range is .*"
    with pytest.raises(
        bbb.errors.InputError, match=message + r"Convert it with \.astype\(jnp\.float32\), or jnp\.bfloat16"
    ):
        new(params)
    with pytest.raises(bbb.errors.InputError, match="log_std leaf '0/bias' to be float32"):
        bbb.MeanField(params, params)


def test_bfloat16_is_taken():
    assert new(cast(ml_dtypes.bfloat16)).posterior.mean[0]["bias"].dtype == jnp.bfloat16
