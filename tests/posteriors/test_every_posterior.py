"""Every public call with every posterior; and `FullRank` against what is known exactly."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import bbb
from bbb import MeanField, torchbnn
from bbb.errors import InputError
from bbb.posteriors import FullRank, Kronecker, LowRank, LowRankPrecision, Point
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.protocol import Posterior

mpl.use("Agg")
KEY = jax.random.key(5)
NETWORK = bbb.nn.sequential(bbb.nn.linear(1, 2), bbb.nn.tanh, bbb.nn.linear(2, 1))
X = np.linspace(-1.0, 1.0, 6, dtype=np.float32)[:, None]
Y = np.sin(2.0 * X)


def dense(params, std=0.2, seed=0):
    """A posterior in which every weight depends on every other."""
    start = FullRank.around(params, std)
    lower = jax.random.normal(jax.random.key(seed), start.lower.shape, start.lower.dtype)
    return dataclasses.replace(start, lower=lower)


def by_rows(params, std=0.2, rows=3, seed=0):
    """A posterior in which every weight depends on every other by a few rows."""
    start = FullRank.around(params, std)
    factor = jax.random.normal(jax.random.key(seed), (rows, len(start.lower)), start.lower.dtype) / std
    return LowRankPrecision.of(start.mean, start.log_diagonal, factor)


def by_directions(params, std=0.2, rank=3, seed=0):
    """A posterior in which every weight depends on every other by a few directions."""
    start = LowRank.around(params, std, rank=rank)
    return dataclasses.replace(start, factor=jax.random.normal(jax.random.key(seed), start.factor.shape))


def by_bases(params, std=0.2):
    """A posterior in which the weights of a leaf depend on each other by two bases."""
    start, rng = MeanField.around(params, std), np.random.default_rng(0)

    def basis(shape, rows):
        columns = np.linalg.qr(rng.normal(size=(rows, rows)))[0]
        return jnp.asarray(columns.reshape(*shape, rows), jnp.float32)

    left = jax.tree.map(lambda leaf: basis((1, *leaf.shape[1:]), leaf.size // len(leaf)), params)
    right = jax.tree.map(lambda leaf: basis((len(leaf), *(1,) * (leaf.ndim - 1)), len(leaf)), params)
    wider = jax.tree.map(lambda s: s + jnp.linspace(-1.0, 1.0, s.size).reshape(s.shape), start.log_std)
    return Kronecker(start.mean, wider, left, right)


MAKERS = {
    "FullRank": dense,
    "LowRankPrecision": by_rows,
    "LowRank": by_directions,
    "Kronecker": by_bases,
}


def draws(params, count=4):
    """A posterior of points, whose biases were not sampled."""
    several = jax.tree.map(lambda leaf: jnp.stack([leaf + 0.1 * i for i in range(count)]), params)
    parts = ("weight", "bias")
    drawn, fixed = (
        tuple({name: layer[name] if name == part else None for name in layer} if layer else layer for layer in several)
        for part in parts
    )
    return Ensemble(Point(drawn, fixed))


def model_of(kind):
    params = NETWORK.init(KEY)
    one = MAKERS.get(kind.removeprefix("Ensemble of "), MeanField.around)(params, 0.2)
    moved = one.with_params(jax.tree.map(lambda leaf: leaf + 0.1, one.params))
    posterior = Ensemble(jax.tree.map(lambda *leaves: jnp.stack(leaves), one, moved)) if "Ensemble" in kind else one
    if kind == "draws":
        posterior = draws(params)
    parts = {"prior": bbb.priors.Normal(0.0, 1.0), "likelihood": bbb.likelihoods.Gaussian(0.3)}
    return dataclasses.replace(bbb.bayesianize(NETWORK.apply, params, **parts), posterior=posterior)


DENSE = tuple(MAKERS)
KINDS = ("MeanField", "Ensemble", "draws", *DENSE, *(f"Ensemble of {kind}" for kind in DENSE))
MODELS = {kind: model_of(kind) for kind in KINDS}


def saved(model, folder):
    bbb.save(folder / "model", model)
    return bbb.load(folder / "model")


def exported(model, folder):
    bbb.serving.export(folder / "exported", model, X, draws=8, platforms=("cpu",))
    return bbb.serving.load_exported(folder / "exported").predict(KEY, X).f.mean


def leaves_of(tree):
    """Return the arrays of the posterior's group, which are the draws of weights."""
    return [np.asarray(variable) for variable in tree["posterior"].data_vars.values()]


def divergence(model):
    return bbb.priors.kl(model.member(0).posterior, model.prior)


def diagnosed(model, folder):
    del folder
    assert str(bbb.diagnose(model, None, X, Y, draws=40))
    return 0.0


CALLS = {
    "fit": lambda m, _: bbb.fit(KEY, m, X, Y, steps=2)[0],
    "predict": lambda m, _: bbb.predict(KEY, m, X, draws=8).y.std,
    "predict, antithetic": lambda m, _: bbb.predict(KEY, m, X, draws=8, sampling="antithetic").f.std,
    "predict, sobol": lambda m, _: bbb.predict(KEY, m, X, draws=8, sampling="sobol").f.std,
    "predict by moments": lambda m, _: bbb.predict(KEY, m, X, method="moments").f.std,
    "predict by its last layer": lambda m, _: bbb.predict(KEY, m, X, draws=8, method="last_layer").f.std,
    "draws": lambda m, _: bbb.draws(KEY, m, X, draws=8),
    "sample": lambda m, _: bbb.posteriors.sample(KEY, m.posterior),
    "log_prob": lambda m, _: bbb.posteriors.log_prob(m.posterior, bbb.posteriors.sample(KEY, m.posterior)),
    "kl": lambda m, _: bbb.priors.kl(m.posterior, m.prior),
    "kl, estimated": lambda m, _: bbb.priors.kl(m.posterior, bbb.priors.ScaleMixture(), key=KEY, draws=10),
    "negative_elbo": lambda m, _: bbb.objectives.negative_elbo(KEY, m, X, Y, draws=2)[0],
    "weight_sampling": lambda m, _: bbb.forwards.weight_sampling(m.apply)(KEY, m.posterior, X),
    "local_reparam": lambda m, _: bbb.forwards.local_reparam(m.apply)(KEY, m.posterior, X),
    "flipout": lambda m, _: bbb.forwards.flipout(m.apply)(KEY, m.posterior, X),
    "moments": lambda m, _: bbb.moments.moments(m.apply)(m.posterior, X),
    "explain": lambda m, _: float(len(bbb.forwards.explain(m.apply, m.posterior, X, bbb.forwards.weight_sampling))),
    "diagnose": diagnosed,
    "signal_to_noise": lambda m, _: bbb.evaluate.signal_to_noise(m.posterior),
    "prune": lambda m, _: bbb.evaluate.prune(m.posterior, 0.5),
    "pruning_curve": lambda m, _: bbb.evaluate.pruning_curve(m, [0.0, 0.5], divergence),
    "plot.signal_to_noise": lambda m, _: len(bbb.plots.signal_to_noise(m.posterior).lines),
    "plot.weight_density": lambda m, _: len(bbb.plots.weight_density(m.posterior, m.prior).lines),
    "to_datatree": lambda m, _: leaves_of(bbb.evaluate.to_datatree(KEY, m, X, Y, draws=4)),
    "save and load": saved,
    "export": exported,
    "adapters.restore": lambda m, _: bbb.networks.adapters.restore(m, bbb.posteriors.sample(KEY, m.posterior)),
    "torchbnn.to_state_dict": lambda m, _: torchbnn.to_state_dict(m),
}
DEPENDENT = "a posterior of independent weights, such as a MeanField, for {}, got a {}, whose weights depend"
ONE_BY_ONE = {
    "predict by moments": "moments",
    "predict by its last layer": "last_layer",
    "local_reparam": "local_reparam",
    "flipout": "flipout",
    "moments": "moments",
    "torchbnn.to_state_dict": "to_state_dict",
}
OF_SEVERAL = "one posterior, to ask for its means, got an ensemble of 2"
REFUSED: dict[str, dict[str, str]] = {
    "Ensemble": {
        **dict.fromkeys(("local_reparam", "flipout", "moments", "torchbnn.to_state_dict"), OF_SEVERAL),
        **dict.fromkeys(("kl", "kl, estimated"), "one mean-field posterior, got an ensemble of 2"),
        **dict.fromkeys(("fit", "negative_elbo"), "a model of one posterior, got one of 2 members"),
    },
    **{kind: {call: DEPENDENT.format(verb, kind) for call, verb in ONE_BY_ONE.items()} for kind in DENSE},
}
OF_POINTS = "a posterior with at least one Gaussian, for {}, got one of 4 draws, which are points"
REFUSED["draws"] = {
    **{call: text.replace("of 2", "of 4") for call, text in REFUSED["Ensemble"].items()},
    "predict, antithetic": "the draws of a posterior that holds them, 4 points, got sampling='antithetic'",
    "predict, sobol": "the draws of a posterior that holds them, 4 points, got sampling='sobol'",
    "predict by moments": "4 points, got method='moments'",
    "predict by its last layer": "4 points, got method='last_layer'",
    **dict.fromkeys(("signal_to_noise", "plot.signal_to_noise"), OF_POINTS.format("signal_to_noise")),
    **dict.fromkeys(("prune", "pruning_curve"), OF_POINTS.format("prune")),
    "plot.weight_density": OF_POINTS.format("weight_density"),
}
REFUSED |= {f"Ensemble of {kind}": {**REFUSED[kind], **REFUSED["Ensemble"]} for kind in DENSE}
for one in ("LowRankPrecision", "Kronecker"):
    REFUSED[one]["fit"] = f"a posterior that gradients can train, for fit, got a {one}, some of whose"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_every_public_call_takes_every_posterior_or_says_which_it_needs(call, kind, tmp_path):
    text = REFUSED.get(kind, {}).get(call)
    if text is not None:
        with pytest.raises(InputError, match=text):
            CALLS[call](MODELS[kind], tmp_path)
        return
    found = jax.tree.leaves(CALLS[call](MODELS[kind], tmp_path))
    assert found
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in found)


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_the_weights_of_noise_and_like_the_parameters(kind):
    posterior = MODELS[kind].posterior
    drawn = posterior.weights(posterior.noise(KEY))
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) and bool((a == b).all()), drawn, drawn)
    assert jax.tree.all(same)
    jax.tree.map(np.testing.assert_array_equal, drawn, bbb.posteriors.sample(KEY, posterior))
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, posterior.params)
    np.testing.assert_allclose(
        bbb.forwards.weight_sampling(NETWORK.apply)(KEY, posterior, X), NETWORK.apply(drawn, X), rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_draw_i_is_of_component_i_by_its_own_key(kind):
    model = MODELS[kind]
    made = bbb.draws(KEY, model, X, draws=4)
    for i in range(4):
        member = model.posterior.component(i % model.members)
        weights = member.weights(member.noise(jax.random.fold_in(KEY, i)))
        np.testing.assert_allclose(made[i], NETWORK.apply(weights, X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_very_numbers_and_the_class_back(kind, tmp_path):
    model = MODELS[kind]
    again = saved(model, tmp_path)
    assert jax.tree.structure(again.posterior) == jax.tree.structure(model.posterior)
    jax.tree.map(np.testing.assert_array_equal, again.posterior, model.posterior)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cube(Posterior):
    """Weights that are uniform within `width` of their centre: a posterior of one's own, which is not Gaussian."""

    centre: Any
    width: Any

    @property
    def params(self):
        return self.centre

    def noise(self, key):
        flat, tree_of = ravel_pytree(self.centre)
        return tree_of(jax.random.uniform(key, flat.shape, flat.dtype, -1, 1))

    def weights(self, noise):
        return jax.tree.map(lambda m, e: m + self.width * e, self.centre, noise)

    def log_prob(self, params):
        return -sum(leaf.size for leaf in jax.tree.leaves(params)) * jnp.log(2 * self.width)

    def random_leaves(self, params):
        return params

    def with_params(self, params):
        return Cube(params, self.width)


def test_a_posterior_of_ones_own_needs_the_contract_and_no_more(tmp_path):
    model = dataclasses.replace(MODELS["MeanField"], posterior=Cube(NETWORK.init(KEY), jnp.float32(0.1)))
    for call in ("predict", "draws", "sample", "log_prob", "weight_sampling", "to_datatree", "export"):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(CALLS[call](model, tmp_path))), call
    bbb.save(tmp_path / "model", model)
    jax.tree.map(np.testing.assert_array_equal, bbb.load(tmp_path / "model", like=model).posterior, model.posterior)
    for call in ("kl", "negative_elbo"):
        with pytest.raises(InputError, match=r"a Gaussian posterior, for its KL, got a Cube\. Pass a MeanField, or an"):
            CALLS[call](model, tmp_path)
    for call, verb in {"prune": "signal_to_noise", "diagnose": "diagnose"}.items():
        with pytest.raises(InputError, match=f"a Gaussian posterior, for {verb}, got a Cube"):
            CALLS[call](model, tmp_path)


# --- FullRank against what is known ----------------------------------------------------------------------------------


def params_of(dtype):
    return {"a": np.asarray([0.5, -1.0], dtype), "b": np.asarray([[0.3], [2.0]], dtype)}


def moments_of(posterior):
    """Return the mean (d,) and the covariance (d, d) in float64."""
    mean = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(posterior.mean)]).astype(float)
    scale = np.asarray(posterior.scale, float)
    return mean, scale @ scale.T


def test_its_scale_is_the_jacobian_of_its_draws_and_lower_triangular(dtype):
    posterior = dense(params_of(dtype), std=0.4)
    flat, unravel = ravel_pytree(posterior.noise(KEY))
    slopes = jax.jacobian(lambda e: ravel_pytree(posterior.weights(unravel(e)))[0])(flat)
    np.testing.assert_allclose(slopes, posterior.scale, rtol=1e-5)
    assert (np.triu(posterior.scale, 1) == 0).all()
    assert (np.diag(posterior.scale) > 0).all()


def test_its_kl_and_density_are_those_of_one_gaussian(dtype):
    posterior = dense(params_of(dtype), std=0.4)
    mean, covariance = moments_of(posterior)
    d, logdet = len(mean), np.linalg.slogdet(covariance)[1]
    m0, s0 = 0.25, 1.5
    exact = 0.5 * (np.trace(covariance) / s0**2 + np.sum((mean - m0) ** 2) / s0**2 - d - logdet + 2 * d * math.log(s0))
    rtol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(bbb.priors.kl(posterior, bbb.priors.Normal(m0, s0)), exact, rtol=rtol)
    drawn = bbb.posteriors.sample(KEY, posterior)
    off = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(drawn)]).astype(float) - mean
    density = -0.5 * (off @ np.linalg.solve(covariance, off) + logdet + d * math.log(2 * math.pi))
    np.testing.assert_allclose(bbb.posteriors.log_prob(posterior, drawn), density, rtol=10 * rtol)
    np.testing.assert_allclose(posterior.entropy(), 0.5 * (logdet + d * math.log(2 * math.pi * math.e)), rtol=rtol)
    alone = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(posterior.std)])
    np.testing.assert_allclose(alone, np.sqrt(np.diag(covariance)), rtol=rtol)
    correlation = 0.5 * (np.sum(np.log(np.diag(covariance))) - logdet)
    np.testing.assert_allclose(posterior.total_correlation(), correlation, rtol=10 * rtol)


def test_with_independent_weights_it_is_the_mean_field_number_for_number(dtype):
    params = params_of(dtype)
    full, plain = FullRank.around(params, 0.3), MeanField.around(params, 0.3)
    prior = bbb.priors.Normal(params, 0.3)
    assert bbb.priors.kl(full, prior) == bbb.priors.kl(plain, prior) == 0
    assert plain.total_correlation() == full.total_correlation() == 0
    assert full.entropy() == plain.entropy()
    jax.tree.map(np.testing.assert_array_equal, bbb.posteriors.sample(KEY, full), bbb.posteriors.sample(KEY, plain))


def test_leaves_that_are_points_have_no_part_in_it():
    params = params_of("float32")
    posterior = FullRank.around(params, 0.3, {"a": True, "b": False})
    assert posterior.lower.shape == (2, 2)
    assert (bbb.posteriors.sample(KEY, posterior)["b"] == params["b"]).all()
    assert posterior.random_leaves(params)["b"] is None
    with pytest.raises(InputError, match="a leaf with a Gaussian, for a FullRank, got point estimates alone"):
        FullRank(params, {"a": None, "b": None}, jnp.zeros((0, 0)))
    with pytest.raises(InputError, match="at least one array"):
        FullRank.around(params, 0.3, where=False)
    with pytest.raises(bbb.errors.ShapeError, match=r"lower to be \(2, 2\), of the weights with a Gaussian"):
        dataclasses.replace(posterior, lower=jnp.zeros((3, 3)))


def test_a_pruned_weight_is_0_and_the_others_keep_their_distribution():
    posterior = dense(params_of("float32"))
    pruned = bbb.evaluate.prune(posterior, 0.5)
    gone = np.concatenate([np.ravel(leaf) == 0 for leaf in jax.tree.leaves(pruned.mean)])
    assert gone.sum() == 2
    (mean, covariance), (mean_after, after) = moments_of(posterior), moments_of(pruned)
    np.testing.assert_array_equal(mean_after[~gone], mean[~gone])
    np.testing.assert_allclose(after[~gone][:, ~gone], covariance[~gone][:, ~gone], rtol=1e-6)
    assert (np.sqrt(np.diag(after))[gone] < 1e-18).all()


INPUTS = np.array([[-1.0, -0.8], [-0.5, -0.6], [0.0, 0.3], [0.4, 0.2], [0.7, 0.9], [1.0, 0.8]])
TARGETS = INPUTS @ np.array([[1.0], [-0.5]]) + np.array([[0.1], [-0.2], [0.0], [0.2], [-0.1], [0.1]])
NOISE, PRIOR = 0.2, 1.0


def line(params, x):
    return x @ params


def regression():
    """Return the exact posterior's mean and covariance, and −log evidence in nats."""
    covariance = np.linalg.inv(INPUTS.T @ INPUTS / NOISE**2 + np.eye(2) / PRIOR**2)
    mean = covariance @ INPUTS.T @ TARGETS / NOISE**2
    of_y = PRIOR**2 * INPUTS @ INPUTS.T + NOISE**2 * np.eye(6)
    evidence = 0.5 * (TARGETS.T @ np.linalg.solve(of_y, TARGETS))[0, 0] + 0.5 * np.linalg.slogdet(2 * np.pi * of_y)[1]
    return mean, covariance, evidence


def bound(posterior):
    """Return −ELBO of the linear network in closed form, in nats."""
    f = INPUTS @ posterior.mean
    variance = jnp.sum(jnp.square(INPUTS @ posterior.scale), axis=1, keepdims=True)
    data = jnp.sum(jnp.square(TARGETS - f) + variance) / (2 * NOISE**2) + 6 * math.log(NOISE * math.sqrt(2 * math.pi))
    return data + bbb.priors.kl(posterior, bbb.priors.Normal(0.0, PRIOR))


def test_of_a_linear_network_the_best_is_the_exact_posterior_at_the_evidence():
    with jax.enable_x64(True):
        mean, covariance, evidence = regression()
        scale = np.linalg.cholesky(covariance)
        diagonal = np.diag(scale)
        exact = FullRank(jnp.asarray(mean), jnp.log(diagonal)[:, None], jnp.asarray(scale / diagonal[:, None]))
        np.testing.assert_allclose(exact.scale, scale, rtol=1e-12)
        np.testing.assert_allclose(bound(exact), evidence, rtol=1e-12)
        slopes = jax.grad(bound)(exact)
        jax.tree.map(lambda slope: np.testing.assert_allclose(slope, 0, atol=1e-10), slopes)
        assert float(bound(exact.scaled(1.1))) > evidence + 0.01


def test_fit_finds_it():
    mean, covariance, evidence = regression()
    model = bbb.bayesianize(
        line,
        np.zeros((2, 1), np.float32),
        prior=bbb.priors.Normal(0.0, PRIOR),
        likelihood=bbb.likelihoods.Gaussian(NOISE),
        posterior=FullRank.around,
        std=0.1,
    )
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 600))
    trained, _ = bbb.fit(
        KEY, model, INPUTS, TARGETS, steps=600, objective=bbb.train.Objective(draws=8), optimizer=optimizer
    )
    assert float(bound(trained.posterior)) - evidence < 0.02  # nats; the best independent Gaussians miss 1.08
    found_mean, found = moments_of(trained.posterior)
    np.testing.assert_allclose(found_mean, mean[:, 0], atol=0.1)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert abs(found[0, 1] / np.sqrt(found[0, 0] * found[1, 1]) - correlation) < 0.05
