"""Several outputs: a tree of likelihoods is trained as the sum of its parts, and asked for one by one or together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, NonFiniteInputError, ShapeError

RNG = np.random.default_rng(0)
ROWS = 40
X = RNG.normal(size=(ROWS, 2)).astype(np.float32)
PRICE = (X[:, :1] - X[:, 1:]).astype(np.float32)
KIND = (X[:, 0] > 0).astype(np.int32)
Y = {"price": PRICE, "kind": KIND}
BODY = bbb.nn.sequential(bbb.nn.linear(2, 6), bbb.nn.tanh, bbb.nn.linear(6, 3))
KEY = jax.random.key(1)


def both(params, x):
    """Return a price and the logits of two kinds."""
    out = BODY.apply(params, x)
    return {"price": out[:, :1], "kind": out[:, 1:]}


def parts(learn=True):
    return {"price": bbb.likelihoods.Gaussian(0.3, learn=learn), "kind": bbb.likelihoods.Categorical()}


def model_of(apply=both, likelihood=None, learn=True):
    likelihood = parts(learn) if likelihood is None else likelihood
    return bbb.bayesianize(apply, BODY.init(jax.random.key(0)), prior=bbb.priors.Normal(), likelihood=likelihood)


def fitted(**how):
    return bbb.fit(KEY, model_of(), X, Y, steps=30, progress=False, **how)


def test_log_probabilities_are_summed():
    joint = bbb.likelihoods.Joint(parts())
    outputs = both(BODY.init(jax.random.key(0)), X)
    own = [part.log_prob(Y[name], outputs[name]) for name, part in parts().items()]
    np.testing.assert_allclose(joint.log_prob(Y, outputs), own[0] + own[1], rtol=1e-6)
    assert joint.learn
    assert not bbb.likelihoods.Joint(parts(learn=False)).learn
    assert joint.paths == ("kind", "price")


def test_the_bound_is_that_of_the_parts_with_one_divergence():
    model = model_of()
    key = jax.random.key(2)
    total, cost = bbb.objectives.negative_elbo(key, model, X, Y, draws=3)
    own = [bbb.objectives.negative_elbo(key, model.head(name), X, Y[name], draws=3)[1] for name in Y]
    np.testing.assert_allclose(cost.data_term, own[0].data_term + own[1].data_term, rtol=1e-5)
    np.testing.assert_allclose(total, cost.data_term + own[0].kl, rtol=1e-5)


def test_one_part_is_the_model_of_one_output():
    """With one likelihood in the tree, training is that of the plain model, bit for bit."""

    def lone(params, x):
        return (BODY.apply(params, x),)

    target = np.hstack([PRICE, PRICE, PRICE])
    noise = bbb.likelihoods.Gaussian(0.3, learn=True)
    plain, _ = bbb.fit(KEY, model_of(BODY.apply, noise), X, target, steps=20, batch_size=16, progress=False)
    tree, _ = bbb.fit(KEY, model_of(lone, (noise,)), X, (target,), steps=20, batch_size=16, progress=False)
    jax.tree.map(np.testing.assert_array_equal, plain.posterior, tree.posterior)


def test_both_outputs_are_learned_and_predicted_from_the_same_draws():
    model, history = bbb.fit(KEY, model_of(), X, Y, steps=400, batch_size=16, validation=0.2, progress=False)
    made = bbb.predict(jax.random.key(2), model, X, draws=200, levels=(0.9,))
    assert np.corrcoef(made["price"].f.mean[:, 0], PRICE[:, 0])[0, 1] > 0.9
    assert np.mean(made["kind"].y.classes == KIND) > 0.9
    assert made["price"].y.interval(0.9).lower.shape == (ROWS, 1)
    drawn = bbb.draws(jax.random.key(2), model, X, draws=9)
    assert drawn["price"].shape == (9, ROWS, 1)
    assert drawn["kind"].shape == (9, ROWS, 2)
    weights = [bbb.posteriors.sample(jax.random.fold_in(jax.random.key(2), i), model.posterior) for i in range(2)]
    for i, params in enumerate(weights):
        for name, output in both(params, X).items():
            np.testing.assert_allclose(drawn[name][i], output, rtol=1e-4, atol=1e-5)
    assert history.validation_log_score is not None


@pytest.mark.parametrize("forward", [bbb.forwards.local_reparam, bbb.forwards.flipout])
def test_noise_of_rows_serves_several_outputs(forward):
    _, history = fitted(objective=bbb.train.Objective(forward=forward(both), draws=2))
    assert history.loss[-1] < history.loss[0]


def test_members_learn_noise_of_their_own():
    model, _ = fitted(restarts=bbb.train.Restarts(2, init=BODY.init))
    made = bbb.predict(jax.random.key(2), model, X, draws=20)
    assert made["kind"].y.probabilities.shape == (ROWS, 2)
    assert model.head("price").likelihood.likelihood.std.shape[0] == 2


def test_weights_streams_and_checkpoints_take_trees_of_targets(tmp_path):
    plain, _ = fitted(sample_weight=np.ones(ROWS), checkpoints=str(tmp_path / "run"))
    stream, _ = bbb.fit(KEY, model_of(), data=[(X, Y)], num_data=ROWS, steps=30, progress=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain.posterior, stream.posterior)


def test_only_parts_that_learn_are_trained():
    likelihood = {"price": bbb.likelihoods.Gaussian(0.3), "kind": bbb.likelihoods.Gaussian([1.0, 1.0], learn=True)}
    model = model_of(likelihood=likelihood)
    y = {"price": PRICE, "kind": np.hstack([PRICE, PRICE])}
    model, _ = bbb.fit(KEY, model, X, y, steps=20, progress=False)
    assert float(model.likelihood.parts["price"].std) == pytest.approx(0.3)
    assert not np.allclose(model.likelihood.parts["kind"].std, 1.0)


def test_a_head_can_have_a_laplace_posterior_and_a_diagnosis():
    model, history = fitted()
    price = dataclasses.replace(model.head("price"), likelihood=bbb.likelihoods.Gaussian(jnp.float32(0.3)))
    wide = bbb.laplace(jax.random.key(3), price, X, PRICE, structure="diag")
    assert bbb.predict(jax.random.key(2), wide, X).f.std.shape == (ROWS, 1)
    bbb.diagnose(model.head("kind"), history, X, KIND)
    assert model.head("kind").apply == model.head("kind").apply
    assert model.head("kind").apply != model.head("price").apply


def test_a_model_of_several_outputs_is_saved_and_read_back(tmp_path):
    model, _ = fitted()
    bbb.save(tmp_path / "model", model)
    again = bbb.load(tmp_path / "model", like=model)
    jax.tree.map(np.testing.assert_array_equal, model, again)


def test_a_part_may_have_missing_targets():
    """A missing price drops out of the sum, and NaN in another part is refused by its name."""
    partial = {**parts(), "price": bbb.likelihoods.PartiallyObserved(bbb.likelihoods.Gaussian(0.3, learn=True))}
    hole = np.arange(ROWS)[:, None] % 2 == 0
    y = {"price": np.where(hole, np.nan, PRICE), "kind": KIND}
    model = model_of(likelihood=partial)
    one, _ = bbb.fit(KEY, model, X, y, steps=20, progress=False)
    other, _ = bbb.fit(KEY, model, X, {**y, "price": np.where(hole, np.nan, PRICE + 0)}, steps=20, progress=False)
    jax.tree.map(np.testing.assert_array_equal, one.posterior, other.posterior)
    joint, price = model.likelihood, y["price"].astype(np.float32)
    outputs = both(model.posterior.mean, X)
    found = joint.log_prob({"price": jnp.asarray(price), "kind": KIND}, outputs)
    kinds = bbb.likelihoods.Categorical().log_prob(KIND, outputs["kind"])
    np.testing.assert_allclose(found[::2], kinds[::2], rtol=1e-6)
    assert np.all(found[1::2] != kinds[1::2])
    with pytest.raises(NonFiniteInputError, match="Expected y leaf 'price' to hold finite numbers only"):
        bbb.fit(KEY, model_of(), X, y, steps=1, progress=False)


# Bad input


def test_bad_trees_of_outputs_are_refused_by_name():
    model = model_of()
    how = {"steps": 1, "progress": False}
    with pytest.raises(ShapeError, match="Expected y to be a tree like that of the likelihoods, of kind, price, got"):
        bbb.fit(KEY, model, X, {"price": PRICE}, **how)
    with pytest.raises(ShapeError, match="Expected y to be a tree like that of the likelihoods"):
        bbb.fit(KEY, model, X, PRICE, **how)
    with pytest.raises(ShapeError, match="Expected y leaf 'price' to have the 40 rows of 'kind', got 39 rows"):
        bbb.fit(KEY, model, X, {"price": PRICE[:-1], "kind": KIND}, **how)
    with pytest.raises(ShapeError, match="Expected y to have the shape"):
        bbb.fit(KEY, model, X, {"price": PRICE[:, 0], "kind": KIND}, **how)
    with pytest.raises(ShapeError, match="Expected the network's outputs to be a tree like that of the likelihoods"):
        bbb.fit(KEY, model_of(BODY.apply), X, Y, **how)
    with pytest.raises(InputError, match="Expected at least one likelihood, got none"):
        bbb.likelihoods.Joint({})
    with pytest.raises(InputError, match="Expected an output among kind, price, got 'colour'"):
        model.head("colour")
    with pytest.raises(InputError, match="Expected a model of several outputs, which has a tree of likelihoods"):
        model_of(BODY.apply, bbb.likelihoods.Gaussian([1.0] * 3)).head("kind")
    with pytest.raises(InputError, match="Expected a model of one output, for diagnose, got one of 2"):
        bbb.diagnose(model, None, X, Y)
    with pytest.raises(InputError, match="Expected a likelihood with `fisher_root`, which laplace needs, got a Joint"):
        bbb.laplace(jax.random.key(3), model, X, Y)
    with pytest.raises(InputError, match="Expected a likelihood"):
        bbb.likelihoods.Joint({"price": bbb.likelihoods.Gaussian(), "kind": 3})
