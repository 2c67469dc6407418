"""What every public call says of a tracer, a mask, words, and a network whose outputs are no real numbers.

A case is named as in `tests/bad_input.py`, whose small models it takes.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb import likelihoods, metrics, mixture, plots, priors, torchbnn
from bbb.errors import InputError, ShapeError
from bbb.networks import nn
from tests import bad_input as bad
from tests.house.public import PROTOCOLS, RECORDS, ROWED, WITHOUT_A_BAD_INPUT, public

KEY, MODEL, NETWORK = bad.KEY, bad.MODEL, bad.NETWORK
X, Y = jnp.asarray(bad.X, jnp.float32), jnp.asarray(bad.Y, jnp.float32)
LABELS, CHANCES = jnp.arange(6) % 2, jnp.full((4, 6, 2), 0.5)
OUTPUTS = jnp.ones((4, 6, 1))
ONE, HALF = jnp.ones(()), jnp.full((), 0.5)
POSTERIOR, POINT = MODEL.posterior, MODEL.posterior.mean
NOTHING = jax.tree.map(lambda _: None, POINT)
PARTS = {"prior": MODEL.prior, "likelihood": MODEL.likelihood}


def arrays(**given):
    return {name: jnp.asarray(value) for name, value in torchbnn.to_state_dict(MODEL, **given).items()}


def inferences():
    """Return, for `outside`, what makes another posterior of a trained model."""
    data = {"key": KEY, "model": MODEL, "x": X}
    for structure in ("full", "low_rank"):
        at = functools.partial(bbb.laplace, structure=structure)
        yield "laplace", at, {**data, "y": Y}
    yield "laplace", lambda rank: bbb.laplace(KEY, MODEL, X, Y, rank=rank), {"rank": jnp.ones((), int)}
    yield "tune", bbb.tune, {**data, "y": Y}
    yield "tune", lambda steps: bbb.tune(KEY, MODEL, X, Y, steps=steps), {"steps": jnp.ones((), int)}
    for sampler in ("hmc", "nuts"):
        given = {**data, "y": Y, "watch": X}
        call = lambda key, model, x, y, watch, of=sampler: getattr(bbb.mcmc, of)(key, model, x, y, watch=watch)  # noqa: E731
        yield f"mcmc.{sampler}", call, given
    yield "mcmc.hmc", lambda draws: bbb.mcmc.hmc(KEY, MODEL, X, Y, draws=draws), {"draws": jnp.ones((), int)}


def outside():
    """Return what needs numbers: what is called, and what it is called with, each of which becomes a tracer in turn."""
    data = {"key": KEY, "model": MODEL, "x": X}
    of_x = {"key": KEY, "x": X}
    yield "fit", lambda key, model, x, y: bad.fit(x, y, key, model), {**data, "y": Y}
    yield (
        "fit",
        lambda held, weight: bad.fit(validation=held, objective=bbb.train.Objective(kl_weight=weight)),
        {"held": (X, Y), "weight": ONE},
    )
    yield "fit", lambda steps: bad.fit(steps=steps), {"steps": jnp.ones((), int)}
    each = {"keys": jax.random.split(KEY), "model": MODEL, "x": jnp.stack([X, X]), "y": jnp.stack([Y, Y])}
    yield "train.fit_each", lambda keys, model, x, y: bbb.train.fit_each(keys, [model, model], x, y, steps=1), each
    for method in ("draws", "moments", "last_layer"):
        yield (
            "predict",
            functools.partial(lambda method, key, model, x: bad.predict(x, key, model, method=method), method),
            data,
        )
    yield "predict", lambda model: bad.predict(model=model), {"model": bad.ensemble()}
    yield "predict", lambda tolerance: bad.predict(draws="auto", tolerance=tolerance), {"tolerance": ONE}
    yield "predict", lambda level: bad.predict(levels=(level,)), {"level": HALF}
    yield "draws", lambda key, model, x: bbb.draws(key, model, x, draws=4), data
    yield "predictive.predict_batches", lambda key, x: list(bbb.predictive.predict_batches(key, MODEL, [x])), of_x
    yield from inferences()
    yield "diagnose", lambda key, model, x, y: bbb.diagnose(model, None, x, y, key=key), {**data, "y": Y}
    yield "evaluate.spread", bbb.evaluate.spread, {**data, "model": bad.ensemble()}
    yield "evaluate.agreement", bbb.evaluate.agreement, {"key": KEY, "model": MODEL, "reference": MODEL, "x": X}
    yield "evaluate.to_datatree", bbb.evaluate.to_datatree, {**data, "y": Y}
    yield "save", lambda model: bbb.save("new", model), {"model": MODEL}
    yield "save", lambda value: bbb.save("new", MODEL, {"value": value}), {"value": ONE}
    yield "serving.export", lambda model, x: bbb.serving.export("new", model, x), {"model": MODEL, "x": X}
    yield "evaluate.signal_to_noise", bbb.evaluate.signal_to_noise, {"posterior": POSTERIOR}
    yield "evaluate.prune", bbb.evaluate.prune, {"posterior": POSTERIOR, "fraction": HALF}
    curve = {"model": MODEL, "fractions": jnp.linspace(0, 1, 3)}
    yield "evaluate.pruning_curve", lambda model, fractions: bbb.evaluate.pruning_curve(model, fractions, len), curve
    for verb in ("as_full_rank", "as_low_rank"):
        yield f"posteriors.{verb}", getattr(bbb.posteriors, verb), {"posterior": POSTERIOR}
    yield "train.ivon", bbb.train.ivon, {"learning_rate": ONE}
    yield "posteriors.relative_std", bbb.posteriors.relative_std, {"params": POINT, "delta": ONE}
    yield "priors.fan_in", lambda gain: priors.fan_in(POINT, gain), {"gain": ONE}
    yield "networks.standardize", lambda x, y: bbb.networks.standardize(MODEL.apply, x, y), {"x": X, "y": Y}
    yield "train.member_keys", lambda restarts: bbb.train.member_keys(KEY, restarts), {"restarts": jnp.ones((), int)}
    yield "mixture.quantile", lambda p: mixture.quantile(MODEL.likelihood, OUTPUTS, p), {"p": HALF}
    yield from of_torchbnn()
    yield from of_metrics()
    yield from of_plots()
    yield from of_abstention()
    yield from of_decide()
    yield "nn.linear", lambda size: nn.linear(size, 1), {"size": jnp.ones((), int)}
    yield "nn.batch_norm", lambda eps: nn.batch_norm(1, eps=eps), {"eps": ONE}
    yield "nn.dropout", nn.dropout, {"rate": HALF}
    yield "nn.affine", nn.affine, {"shift": X[0], "scale": X[0]}
    yield "train.Objective", lambda draws: bbb.train.Objective(draws=draws), {"draws": jnp.ones((), int)}
    yield "train.EarlyStopping", bbb.train.EarlyStopping, {"validation": HALF}
    yield (
        "train.EarlyStopping",
        lambda patience: bbb.train.EarlyStopping(0.5, patience=patience),
        {"patience": jnp.ones((), int)},
    )
    yield "train.Checkpointing", lambda every: bbb.train.Checkpointing("new", every=every), {"every": jnp.ones((), int)}
    yield "train.Restarts", bbb.train.Restarts, {"number": jnp.ones((), int)}
    yield "objectives.warm_up", bbb.objectives.warm_up, {"steps": jnp.ones((), int)}
    yield "predictive.Marginal.sigma_interval", bad.band().f.sigma_interval, {"sigmas": ONE}
    yield "predictive.Marginal.quantile", bad.band().f.quantile, {"p": HALF}


def of_torchbnn():
    read = lambda state_dict: torchbnn.from_state_dict(NETWORK, state_dict, **PARTS)  # noqa: E731
    yield "torchbnn.from_state_dict", read, {"state_dict": arrays()}
    frozen = {"state_dict": arrays(noise=POSTERIOR.log_std)}
    yield "torchbnn.frozen_noise", lambda state_dict: torchbnn.frozen_noise(NETWORK, state_dict), frozen
    yield "torchbnn.to_state_dict", torchbnn.to_state_dict, {"model": MODEL}
    for name, package in (("bayesian_torch", bbb.bayesian_torch), ("blitz", bbb.blitz)):
        written = {"state_dict": {key: jnp.asarray(value) for key, value in package.to_state_dict(MODEL).items()}}
        again = lambda state_dict, of=package: of.from_state_dict(NETWORK, state_dict, **PARTS)  # noqa: E731
        yield f"{name}.from_state_dict", again, written
        yield f"{name}.to_state_dict", package.to_state_dict, {"model": MODEL}
    yield (
        "torchbnn.explain_kl_weight",
        lambda kl_weight: torchbnn.explain_kl_weight(kl_weight, 5, 1, 5),
        {"kl_weight": ONE},
    )


def of_metrics():
    yield "metrics.rmse", metrics.rmse, {"y": Y, "mean": Y}
    yield "metrics.crps_normal", metrics.crps_normal, {"y": Y, "mean": Y, "std": Y + 1}
    yield "metrics.crps_draws", metrics.crps_draws, {"y": Y, "draws": OUTPUTS}
    yield "metrics.crps_normal_mixture", metrics.crps_normal_mixture, {"y": Y, "means": OUTPUTS, "stds": OUTPUTS}
    yield "metrics.interval_score", metrics.interval_score, {"y": Y, "lower": Y, "upper": Y, "level": HALF}
    yield "metrics.coverage", metrics.coverage, {"y": Y, "lower": Y, "upper": Y}
    yield "metrics.interval_width", metrics.interval_width, {"lower": Y, "upper": Y}
    yield "metrics.pit", metrics.pit, {"key": KEY, "below": Y, "upto": Y}
    yield "metrics.pit_draws", metrics.pit_draws, {"key": KEY, "y": Y, "draws": OUTPUTS}
    yield "metrics.observed_coverage", metrics.observed_coverage, {"pit": Y, "levels": jnp.asarray([0.5, 0.9])}
    for name in ("accuracy", "brier", "reliability", "expected_calibration_error"):
        yield f"metrics.{name}", getattr(metrics, name), {"y": LABELS, "probabilities": CHANCES[0]}


def of_abstention():
    of = bbb.decide.abstention
    scores = {"loss": X[:, 0], "uncertainty": X[:, 0]}
    yield "decide.risk_coverage", of.risk_coverage, {**scores, "sample_weight": X[:, 0] + 2}
    right = {"wrong": jnp.zeros(6), "uncertainty": X[:, 0], "rate": HALF, "confidence": HALF}
    yield "decide.learn_then_test", of.learn_then_test, right
    few = functools.partial(of.ood_scores, draws=4)
    yield "decide.ood_scores", few, {"key": KEY, "model": bad.classifier(), "x": X}
    yield "decide.feature_distance", of.feature_distance, {"key": KEY, "model": MODEL, "reference": X}
    yield "metrics.auroc", metrics.auroc, {"inside": X[:, 0], "outside": X[:, 0]}
    yield "plots.ood_histogram", lambda inside: plots.ood_histogram(inside, X[:, 0], ax=bad.ax()), {"inside": X[:, 0]}


def of_plots():
    line = lambda x, data, target: plots.band(x, bad.band(), data=(X, data), target=target, ax=bad.ax())  # noqa: E731
    yield "plots.band", line, {"x": X, "data": Y, "target": Y}
    yield "plots.fan", lambda x: plots.fan(x, bad.band().f, ax=bad.ax()), {"x": X}
    yield (
        "plots.predicted_against_observed",
        lambda y: plots.predicted_against_observed(y, bad.band().y, ax=bad.ax()),
        {"y": Y},
    )
    yield "plots.calibration", lambda pit: plots.calibration(pit, ax=bad.ax()), {"pit": Y}
    yield "plots.pit_histogram", lambda pit: plots.pit_histogram(pit, ax=bad.ax()), {"pit": Y}
    yield (
        "plots.signal_to_noise",
        lambda posterior: plots.signal_to_noise(posterior, ax=bad.ax()),
        {"posterior": POSTERIOR},
    )
    parts = {"posterior": POSTERIOR, "prior": MODEL.prior}
    yield "plots.weight_density", lambda posterior, prior: plots.weight_density(posterior, prior, ax=bad.ax()), parts
    shares = {"fractions": jnp.linspace(0, 1, 3), "values": jnp.ones(3)}
    yield "plots.pruning", lambda fractions, values: plots.pruning(fractions, values, ax=bad.ax()), shares


def of_decide():
    of, x, rows = bbb.decide, {"key": KEY, "model": MODEL, "x": X}, {"key": KEY, "model": MODEL, "x": X, "y": Y}
    yield "conformal", lambda key, model, x, y: bbb.conformal(key, model, x, y, levels=(0.5,), draws=4), rows
    yield (
        "decide.conformal_sets",
        lambda key, x: of.conformal_sets(key, bad.classifier(), x, LABELS, draws=4),
        {"key": KEY, "x": X},
    )
    folds = lambda means: of.jackknife_plus(means, np.ones(6), np.arange(6) // 2, 0.5)  # noqa: E731
    yield "decide.jackknife_plus", folds, {"means": jnp.zeros((3, 5))}
    yield "update", functools.partial(bbb.update, steps=1), rows
    yield "decide.drift", functools.partial(of.drift, draws=4), rows
    yield "thompson", bbb.thompson, x
    for verb in ("bald", "variance", "upper_confidence_bound"):
        yield f"decide.{verb}", functools.partial(getattr(of, verb), draws=4), x
    better = lambda key, model, x: of.expected_improvement(key, model, x, 0.5, draws=4)  # noqa: E731
    yield "decide.expected_improvement", better, x
    yield "decide.choose_batch", lambda key, model, x: of.choose_batch(key, model, x, 2, draws=4), x
    yield "prior_predict", functools.partial(bbb.prior_predict, draws=4), x
    yield "audit", functools.partial(bbb.audit, draws=4, warmup=4), rows
    checked = functools.partial(of.posterior_predictive_check, held_out=True, draws=20)
    yield "decide.posterior_predictive_check", checked, rows
    for verb in ("psis", "loo"):
        yield f"decide.{verb}", functools.partial(getattr(of, verb), draws=30), rows
    simulated = lambda key, model, x: of.simulation_based_calibration(key, model, x, len)  # noqa: E731
    yield "decide.simulation_based_calibration", simulated, x
    yield "priors.as_prior", priors.as_prior, {"posterior": POSTERIOR}


def posteriors():
    """Return, for `inside`, the constructors of posteriors."""
    yield "MeanField", bbb.MeanField, {"mean": POINT, "log_std": POSTERIOR.log_std}
    full = {"mean": POINT, "log_diagonal": POSTERIOR.log_std, "lower": bbb.posteriors.FullRank.around(POINT, 0.1).lower}
    yield "posteriors.FullRank", bbb.posteriors.FullRank, full
    yield "posteriors.FullRank.around", bbb.posteriors.FullRank.around, {"params": POINT, "std": ONE}
    low = {**full, "factor": jnp.ones((10, 2))}
    del low["lower"]
    yield "posteriors.LowRank", bbb.posteriors.LowRank, low
    yield "posteriors.LowRank.around", bbb.posteriors.LowRank.around, {"params": POINT, "std": ONE}
    rows = {"mean": POINT, "log_diagonal": POSTERIOR.log_std, "factor": jnp.ones((2, 10))}
    yield "posteriors.LowRankPrecision", bbb.posteriors.LowRankPrecision, {**rows, "cholesky": jnp.eye(2)}
    yield "posteriors.LowRankPrecision.of", bbb.posteriors.LowRankPrecision.of, rows
    bases = {"left": jax.tree.map(_unit, POINT), "right": jax.tree.map(_whole, POINT)}
    yield "posteriors.Kronecker", bbb.posteriors.Kronecker, {"mean": POINT, "log_std": POSTERIOR.log_std, **bases}
    yield "posteriors.Point", lambda drawn: bbb.posteriors.Point(drawn, NOTHING), {"drawn": POINT}
    yield "MeanField.around", bbb.MeanField.around, {"params": POINT, "std": ONE}


def _unit(leaf):
    return jnp.ones((1,) * (leaf.ndim + 1))


def _whole(leaf):
    return jnp.eye(leaf.size).reshape(*leaf.shape, leaf.size)


def inside():
    """Return what works within compiled functions, and is asked for there."""
    data = {"key": KEY, "model": MODEL, "x": X, "y": Y}
    yield "objectives.negative_elbo", lambda key, model, x, y: bbb.objectives.negative_elbo(key, model, x, y)[0], data
    for structure in ("full", "last_layer", "kron", "diag"):
        evidence = functools.partial(bbb.log_evidence, structure=structure)
        yield "log_evidence", evidence, {name: data[name] for name in ("model", "x", "y")}
    yield "posteriors.sample", bbb.posteriors.sample, {"key": KEY, "posterior": POSTERIOR}
    yield "posteriors.sample", bbb.posteriors.sample, {"key": KEY, "posterior": bad.ensemble().posterior}
    yield "posteriors.log_prob", bbb.posteriors.log_prob, {"posterior": POSTERIOR, "params": POINT}
    yield "priors.kl", bbb.priors.kl, {"posterior": POSTERIOR, "prior": MODEL.prior}
    yield (
        "priors.kl",
        lambda key, prior: bbb.priors.kl(POSTERIOR, prior, key=key, draws=2),
        {"key": KEY, "prior": priors.ScaleMixture()},
    )
    for name in ("weight_sampling", "linearized", "local_reparam", "flipout", "at_mean"):
        yield f"forwards.{name}", getattr(bbb.forwards, name)(MODEL.apply), {"key": KEY, "posterior": POSTERIOR, "x": X}
    yield "moments.moments", bbb.moments.moments(MODEL.apply), {"posterior": POSTERIOR, "x": X}
    yield "forwards.linearized", bbb.forwards.linearized(MODEL.apply).moments, {"posterior": POSTERIOR, "x": X}
    yield (
        "forwards.explain",
        lambda posterior, x: bbb.forwards.explain(MODEL.apply, posterior, x),
        {"posterior": POSTERIOR, "x": X},
    )
    made = lambda params, prior, likelihood, std: bbb.bayesianize(  # noqa: E731
        MODEL.apply, params, prior=prior, likelihood=likelihood, std=std
    )
    yield "bayesianize", made, {"params": POINT, "std": ONE, **PARTS}
    yield from posteriors()
    yield "curvature.explain", lambda model, x: bbb.curvature.explain(model, x) and X, {"model": MODEL, "x": X}
    yield "priors.Normal", priors.Normal, {"mean": ONE, "std": ONE}
    yield "priors.Normal.around", priors.Normal.around, {"params": POINT}
    yield "priors.Laplace", priors.Laplace, {"mean": ONE, "scale": ONE}
    yield "priors.ScaleMixture", priors.ScaleMixture, {"weight": HALF, "std1": ONE, "std2": ONE}
    yield "priors.EmpiricalNormal", priors.EmpiricalNormal, {"mean": ONE}
    yield "priors.fan_in", priors.fan_in, {"params": POINT}
    yield "likelihoods.Gaussian", likelihoods.Gaussian, {"std": ONE}
    yield "likelihoods.StudentT", likelihoods.StudentT, {"scale": ONE, "df": 4 * ONE}
    yield "likelihoods.NegativeBinomial", likelihoods.NegativeBinomial, {"dispersion": ONE}
    yield "train.member_keys", lambda key: bbb.train.member_keys(key, 2), {"key": KEY}
    yield "mixture.log_score", mixture.log_score, {"likelihood": MODEL.likelihood, "outputs": OUTPUTS, "y": Y}
    yield "mixture.cdf", mixture.cdf, {"likelihood": MODEL.likelihood, "outputs": OUTPUTS, "y": Y}
    yield (
        "mixture.sample_y",
        lambda key, outputs: mixture.sample_y(key, MODEL.likelihood, outputs),
        {"key": KEY, "outputs": OUTPUTS},
    )
    yield "networks.adapters.restore", lambda params: bbb.networks.adapters.restore(MODEL, params), {"params": POINT}
    yield "metrics.predictive_entropy", metrics.predictive_entropy, {"probabilities": CHANCES}
    yield "torchbnn.last_bias_kl", lambda posterior: bbb.priors.kl(posterior, MODEL.prior), {"posterior": POSTERIOR}
    costs = {"model": MODEL, "outputs": OUTPUTS, "y": Y, "row_weights": jnp.ones(6)}
    for cost in (torchbnn.mse_cost, torchbnn.TorchbnnCost("mse"), bbb.objectives.elbo_cost):
        yield f"{cost.__name__}", functools.partial(cost, num_data=6, kl_weight=1.0), costs
    yield "nn: init", NETWORK.init, {"key": KEY}
    yield "nn: apply", NETWORK.apply, {"params": POINT, "x": X}
    yield "schedule: call", bbb.objectives.warm_up(3), {"step": jnp.ones((), int)}
    drawn = lambda key, model, x: bbb.decide.thompson_function(key, model)(x)  # noqa: E731
    yield "decide.thompson_function", drawn, {"key": KEY, "model": MODEL, "x": X}
    yield "decide.at_prior", lambda model: bbb.decide.at_prior(model).posterior, {"model": MODEL}
    yield "priors.MultivariateNormal", priors.MultivariateNormal, {"distribution": POSTERIOR}
    yield "BNN: member", lambda model: model.member(0), {"model": bad.ensemble()}


def cases(table):
    """Name each call, and the argument that becomes a tracer."""
    for i, (name, call, given) in enumerate(table):
        for argument in given:
            yield pytest.param(call, given, argument, id=f"{name}: {argument} ({i})")


def is_floating(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def total(tree):
    """Sum what has a gradient."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array) and is_floating(leaf)]
    return sum(map(jnp.sum, leaves), jnp.zeros(()))


def transformed(call, given, argument):
    """Return the call within jit, vmap and grad: functions of nothing that run each."""

    def function(value):
        return total(call(**{**given, argument: value}))

    value = jax.tree.map(jnp.asarray, given[argument])
    yield "jit", lambda: jax.jit(function).trace(value)
    batch = jax.tree.map(lambda leaf: leaf[None], value)
    yield "vmap", lambda: jax.vmap(function)(batch)
    if all(map(is_floating, jax.tree.leaves(value))):
        yield "grad", lambda: jax.grad(function)(value)


@pytest.mark.parametrize(("call", "given", "argument"), [*cases(outside())])
def test_what_needs_numbers_says_where_to_call_it(call, given, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _, run in transformed(call, given, argument):
        with pytest.raises(
            InputError, match=r"got a tracer\. Call .* outside of jax\.jit, jax\.vmap and jax\.grad"
        ) as caught:
            run()
        assert "Traced<" not in str(caught.value)
        assert re.match(r"Expected [\w ]+ (of|to be called with) numbers,", str(caught.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("call", "given", "argument"), [*cases(inside())])
def test_what_works_within_compiled_functions_goes_on_to(call, given, argument):
    for how, run in transformed(call, given, argument):
        jax.eval_shape(run) if how != "jit" else run()


def test_numbers_become_tracers_within_jit_which_is_said_too():
    def inner(x):
        bbb.predict(KEY, MODEL, X, draws=4)
        return x

    with pytest.raises(InputError, match="Expected predict to be called with numbers, got a tracer"):
        jax.jit(inner)(1.0)


def test_the_estimators_say_so_too():
    for estimator, y in (
        (bbb.sklearn.BayesianMLPRegressor(steps=1), Y[:, 0]),
        (bbb.sklearn.BayesianMLPClassifier(steps=1), LABELS),
    ):
        of_weights = lambda weights, e=estimator, y=y: e.fit(X, y, weights)  # noqa: E731
        for call in (lambda x, e=estimator, y=y: e.fit(x, y), lambda y, e=estimator: e.fit(X, y), of_weights):
            with pytest.raises(InputError, match=r"got a tracer\. Call BayesianMLP\w+ outside of jax\.jit"):
                jax.jit(call).trace(X)


def test_every_public_call_that_takes_numbers_is_here():
    named = {name.split(":")[0] for name, *_ in (*outside(), *inside())}
    without = {
        "load",
        "decide.load_conformal",
        "io.cache_programs",
        "io.read_metadata",
        "serving.load_exported",
        "BNN",
        "errors.BBBError",
        "train.Placement",
    }  # take paths, or are told in their own tests
    families = ("nn.", "tasks.", "networks.adapters.", "torchbnn.", "objectives.", "likelihoods.", "plots.")
    missing = set(public()) - named - RECORDS - PROTOCOLS - WITHOUT_A_BAD_INPUT - without
    assert {name for name in missing if not name.startswith(families)} <= {
        *("sklearn.BayesianMLPRegressor", "sklearn.BayesianMLPClassifier"),
        "posteriors.Ensemble",
    }


# --- masks, words, and outputs that are no real numbers ---------------------------------------------------------------


MASKED = [np.ma.masked_array([0.5], mask=[i == 2]) for i in range(6)]
"""A list of masked arrays, of which `np.asarray` makes the numbers beneath the masks."""


@pytest.mark.parametrize("case", ROWED)
@pytest.mark.parametrize(
    "given", [MASKED, [list(row) for row in np.ma.masked_less(bad.Y, 0.5)]], ids=["arrays", "numbers"]
)
def test_masks_in_lists_are_refused_as_masked_arrays_are(case, given):
    with pytest.raises(InputError, match="without a mask"):
        ROWED[case](given)


def test_the_estimators_refuse_masks_too():
    for estimator, y in (
        (bbb.sklearn.BayesianMLPRegressor(steps=1), bad.Y[:, 0]),
        (bbb.sklearn.BayesianMLPClassifier(steps=1), LABELS),
    ):
        for x, target in (
            (np.ma.masked_less(bad.X, 0), y),
            (MASKED, y),
            (bad.X, np.ma.masked_less(np.asarray(y), 0.5)),
        ):
            with pytest.raises(InputError, match="without a mask"):
                estimator.fit(x, target)


OUTPUT_KINDS = {
    "bool": lambda outputs: outputs > 0,
    "complex64": lambda outputs: outputs.astype("complex64"),
    "int32": lambda outputs: outputs.astype("int32"),
}


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_outputs_that_are_no_real_numbers_are_refused(kind, tmp_path):
    def apply(params, x):
        return OUTPUT_KINDS[kind](NETWORK.apply(params, x))

    model = bbb.bayesianize(apply, POINT, **PARTS)
    for call in (
        lambda: bad.fit(model=model),
        lambda: bad.predict(model=model),
        lambda: bad.predict(model=model, method="moments"),
        lambda: bad.elbo(model=model),
        lambda: bbb.draws(KEY, model, bad.X, draws=4),
        lambda: bbb.diagnose(model, None, bad.X, bad.Y),
        lambda: bbb.serving.export(tmp_path / "new", model, bad.X),
    ):
        with pytest.raises(InputError, match=f"real floating-point numbers, got dtype {kind}. Return means or logits"):
            call()


HINTS = {
    "labels in a column": (
        lambda: _classes(LABELS[:, None]),
        ShapeError,
        r"y of shape \(6,\), .*got \(6, 1\)\. Pass y\[:, 0\]",
    ),
    "labels in a column, to a metric": (
        lambda: metrics.accuracy(np.asarray(LABELS)[:, None], CHANCES[0]),
        ShapeError,
        r"got \(6, 1\)\. Pass y\[:, 0\]",
    ),
    "labels of words": (
        lambda: _classes(np.array(["red", "blue"] * 3)),
        InputError,
        r"Encode words as numbers: .* whole numbers from 0 to K - 1, such as np\.unique\(y, return_inverse=True\)\[1\]",
    ),
    "labels of words as objects": (
        lambda: _classes(np.array(["red", "blue"] * 3, object)),
        InputError,
        "from 0 to K - 1",
    ),
    "numbers as words": (
        lambda: bad.fit(x=np.full((6, 1), "1.5")),
        InputError,
        r"Convert x to floats: np\.asarray\(x, float\)",
    ),
}


def _classes(y):
    return bad.fit(y=y, model=bad.classifier())


@pytest.mark.parametrize("case", HINTS)
def test_a_hint_says_what_helps(case):
    call, error, text = HINTS[case]
    with pytest.raises(error, match=text):
        call()


WORDS = {
    "predict: method": lambda word: bad.predict(method=word),
    "predict: sampling": lambda word: bad.predict(sampling=word),
    "predict: rows": lambda word: bad.predict(rows=word),
    "predict: draws": lambda word: bad.predict(draws=word),
    "fit: on_nonfinite": lambda word: bad.fit(objective=bbb.train.Objective(on_nonfinite=word)),
    "serving.export: platforms": lambda word: bbb.serving.export("new", MODEL, bad.X, platforms=[word]),
    "priors.EmpiricalNormal: per": lambda word: priors.EmpiricalNormal(0.0, word),
    "torchbnn.TorchbnnCost: loss": torchbnn.TorchbnnCost,
    "torchbnn.TorchbnnCost: reduction": lambda word: torchbnn.TorchbnnCost("mse", word),
    "fit: resume": lambda flag: bad.fit(checkpoints=bbb.train.Checkpointing("run", resume=flag)),
    "fit: progress": lambda flag: bad.fit(progress=flag),
    "diagnose: history": lambda history: bbb.diagnose(MODEL, history, bad.X, bad.Y),
    "train.fit_each: x": lambda x: bbb.train.fit_each(
        jax.random.split(KEY), [MODEL, MODEL], x, [bad.Y, bad.Y], steps=1
    ),
    "train.fit_each: y": lambda y: bbb.train.fit_each(
        jax.random.split(KEY), [MODEL, MODEL], [bad.X, bad.X], y, steps=1
    ),
    "predict: tolerance": lambda tolerance: bad.predict(draws="auto", tolerance=tolerance),
    "forwards.explain: forward": lambda forward: bbb.forwards.explain(MODEL.apply, POSTERIOR, X, forward),
}
ODD = {
    "a list": [],
    "a list of words": ["draws"],
    "a dictionary": {},
    "an array": np.ones((6, 1)),
    "records": np.zeros(3, [("a", float)]),
    "a function": len,
    "keys": jax.random.split(KEY, 3),
    "None in a list": [None],
    "an object": object(),
}


@pytest.mark.parametrize("case", WORDS)
def test_an_option_that_is_no_word_no_flag_and_no_number_is_refused_by_name(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in ODD.items():
        with pytest.raises(InputError, match=r"^Expected .*, got ") as caught:
            WORDS[case](value)
        assert "truth value" not in str(caught.value), name


BEYOND = {
    "train.member_keys": lambda: bbb.train.member_keys(KEY, 10**30),
    "nn.linear: in_features": lambda: nn.linear(10**30, 1),
    "nn.linear: out_features": lambda: nn.linear(1, 2**31),
    "nn.conv": lambda: nn.conv(1, 10**30, 3),
    "nn.batch_norm": lambda: nn.batch_norm(10**30),
}


@pytest.mark.parametrize("case", BEYOND)
def test_a_number_that_no_array_can_count_to_is_refused(case):
    with pytest.raises(InputError, match=r"to be at most [\d,]+, got [\d,]+\. Pass a smaller"):
        BEYOND[case]()


NO_ARRAYS = {
    "a word": "x",
    "nothing": None,
    "a range": range(6),
    "a number": 1.0,
    "an object": object(),
    "10³⁰": 10**30,
}


@pytest.mark.parametrize("value", NO_ARRAYS)
def test_what_is_no_array_is_refused_by_closed_forms_and_forwards(value):
    x = NO_ARRAYS[value]
    for call in (
        lambda: bbb.moments.moments(MODEL.apply)(POSTERIOR, x),
        lambda: bbb.moments.moments(MODEL.apply).exactness(POSTERIOR, x),
        lambda: bbb.forwards.local_reparam(MODEL.apply)(KEY, POSTERIOR, x),
        lambda: bbb.forwards.flipout(MODEL.apply)(KEY, POSTERIOR, x),
        lambda: bbb.forwards.weight_sampling(MODEL.apply)(KEY, POSTERIOR, x),
        lambda: bbb.forwards.linearized(MODEL.apply)(KEY, POSTERIOR, x),
        lambda: bbb.forwards.linearized(MODEL.apply).moments(POSTERIOR, x),
    ):
        with pytest.raises(InputError, match=r"^Expected "):
            call()


def test_draws_have_to_be_floating_point():
    with pytest.raises(InputError, match="outputs of floating-point numbers, got dtype bool"):
        mixture.sample_y(KEY, MODEL.likelihood, np.ones((2, 6, 1), bool))


def test_what_is_compiled_works_on_numbers_within_another_program():
    started = jax.jit(lambda scale: jax.tree.map(lambda leaf: leaf * scale, NETWORK.init(KEY)))
    jax.tree.map(np.testing.assert_array_equal, started(jnp.float32(1)), NETWORK.init(KEY))
