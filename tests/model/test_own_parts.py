"""Priors and likelihoods of a user's own: what they have to be, and what each verb needs of them."""

import dataclasses
import inspect
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.errors import InputError, ShapeError

KEY = jax.random.key(0)
X = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
Y = np.sin(3 * X)
NETWORK = bbb.nn.linear(1, 1)
PARAMS = NETWORK.init(KEY)
NORMAL, GAUSSIAN = bbb.priors.Normal(0.0, 1.0), bbb.likelihoods.Gaussian(0.5)


def bayesian(prior=NORMAL, likelihood=GAUSSIAN):
    return bbb.bayesianize(NETWORK.apply, PARAMS, prior=prior, likelihood=likelihood)


def tree(cls):
    """Do what the messages ask for."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def example(protocol):
    """Run the example of a Protocol's docstring, and give what it made."""
    text = inspect.getdoc(protocol).partition("::\n")[2]
    lines = [line for line in text.splitlines() if line.startswith("    ") or not line]
    space = {"bbb": bbb, "jax": jax, "jnp": jnp, "dataclasses": dataclasses, "apply": NETWORK.apply, "params": PARAMS}
    exec(textwrap.dedent("\n".join(lines)), space)
    return space


def test_the_likelihood_of_the_docstring_trains_and_predicts_and_names_what_it_lacks(tmp_path):
    model = example(bbb.likelihoods.Likelihood)["model"]
    trained, history = bbb.fit(KEY, model, X, Y, steps=5, progress=False)
    assert np.isfinite(history.loss).all()
    made = bbb.predict(KEY, trained, X, draws=8)
    np.testing.assert_allclose(made.y.std**2 - made.f.std**2, 0.5, rtol=1e-4)  # Var[y] = 2·scale²
    bbb.save(tmp_path / "model", trained)
    loaded = bbb.load(tmp_path / "model", like=model)
    np.testing.assert_array_equal(bbb.draws(KEY, loaded, X, draws=8), bbb.draws(KEY, trained, X, draws=8))
    quantiles = r"`cdf` and `density` and `discrete`, which {} needs, got a LaplaceNoise without\. Add what is missing"
    for call, text in {
        lambda: made.y.interval(0.9): quantiles.format("a quantile of y"),
        lambda: bbb.predict(KEY, trained, X, levels=(0.9,)): quantiles.format("predict with .* of y"),
        lambda: bbb.serving.export(tmp_path / "new", trained, X): quantiles.format("export with .* of y"),
        lambda: bbb.diagnose(trained, None, X, Y): quantiles.format("diagnose with .* of y"),
        lambda: bbb.mixture.quantile(trained.likelihood, jnp.ones((2, 6, 1)), 0.5): quantiles.format(r"bbb\.mixture"),
        lambda: bbb.evaluate.to_datatree(KEY, trained, X): "a likelihood with `sample`, which to_datatree needs",
        lambda: bbb.mixture.sample_y(KEY, trained.likelihood, jnp.ones((2, 6, 1))): "`sample`, which sample_y needs",
        lambda: bbb.predict(KEY, trained, X, method="moments"): "a likelihood that adds Gaussian noise",
    }.items():
        with pytest.raises(InputError, match=text):
            call()
    assert made.f.interval(0.9).lower.shape == Y.shape


def test_the_prior_of_the_docstring_trains():
    model = example(bbb.priors.Prior)["model"]
    _, history = bbb.fit(KEY, model, X, Y, steps=3, progress=False)
    assert history.kl_std_error is not None
    assert np.isfinite(history.kl).all()
    assert np.isfinite(bbb.priors.kl(model.posterior, model.prior, key=KEY, draws=4))
    with pytest.raises(InputError, match="a key"):
        bbb.priors.kl(model.posterior, model.prior)


class Prior:
    """A prior as a first try has it."""

    scale = 1.0

    def kl(self, posterior):
        return sum(jnp.sum(s**2) for s in jax.tree.leaves(posterior.std))


class Likelihood:
    """A likelihood as a first try has it."""

    learn = False

    def as_target(self, y, outputs):
        return y.astype(outputs.dtype)

    def log_prob(self, y, outputs):
        return -jnp.sum(jnp.square(y - outputs), axis=1)


def variant(base, **members):
    """Return an object of a registered class like `base`, with other members."""
    annotations = {"__annotations__": members.pop("annotations", {})}
    return tree(type("Mine", (base,), {**members, **annotations}))()


UNREGISTERED = (
    r"got a {}, which is not\. It must be a frozen dataclass registered with "
    r"jax\.tree_util\.register_dataclass: write above the class\n"
    r"    @jax\.tree_util\.register_dataclass\n    @dataclasses\.dataclass\(frozen=True\)\n"
)
REFUSED = {
    "a plain prior": ({"prior": Prior()}, InputError, UNREGISTERED.format("Prior")),
    "a plain likelihood": ({"likelihood": Likelihood()}, InputError, UNREGISTERED.format("Likelihood")),
    "a prior without kl": ({"prior": tree(type("Mine", (), {}))()}, InputError, "a prior such as bbb.priors.Normal"),
    "a likelihood as a prior": ({"prior": GAUSSIAN}, InputError, "a prior such as bbb.priors.Normal"),
    "a prior's class": ({"prior": Prior}, InputError, "the class Prior itself"),
    "a likelihood's class": ({"likelihood": Likelihood}, InputError, "the class Likelihood itself"),
    "a likelihood without learn": (
        {"likelihood": tree(type("Mine", (), {"as_target": 0, "log_prob": 0}))()},
        InputError,
        "a likelihood with `learn`, which fit needs, got a Mine without",
    ),
    "a likelihood without as_target": (
        {"likelihood": tree(type("Mine", (), {"learn": False, "log_prob": Likelihood.log_prob}))()},
        InputError,
        "a likelihood with `as_target`, which fit needs",
    ),
    "learn that is no bool": (
        {"likelihood": variant(Likelihood, learn="yes")},
        InputError,
        "learn of a likelihood to be a bool",
    ),
    "an option among the numbers": (
        {"prior": variant(Prior, kind="wide", annotations={"kind": str})},
        InputError,
        r"leaf 'kind' of a prior to be a number or an array, got a str\. Declare a field that is not a number",
    ),
    "a constructor that refuses tracers": (
        {
            "prior": variant(
                Prior, scale=1.0, annotations={"scale": float}, __post_init__=lambda self: float(self.scale)
            )
        },
        InputError,
        "can flatten and unflatten, got a Mine that fails: .*Its __post_init__ must accept any object",
    ),
    "a KL of each weight": (
        {"prior": variant(Prior, kl=lambda self, posterior: jnp.ones(3))},
        ShapeError,
        r"whose KL is one number of nats, got shape \(3,\)\. Sum them",
    ),
    "a KL of nothing": (
        {"prior": variant(Prior, kl=lambda self, posterior: None)},
        InputError,
        "whose KL is a floating-point number, got a NoneType",
    ),
    "a KL of whole numbers": (
        {"prior": variant(Prior, kl=lambda self, posterior: jnp.ones((), int))},
        InputError,
        "whose KL is a floating-point number, got dtype int32",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_prior_and_no_likelihood_is_refused_at_the_door(case):
    parts, error, text = REFUSED[case]
    with pytest.raises(error, match=f"(?s){text}"):
        bayesian(**parts)


WITH_DATA = {
    "a log_prob of each output": ({"log_prob": lambda self, y, outputs: y - outputs}, r"log_prob of shape \(6,\)"),
    "a log_prob of all rows": ({"log_prob": lambda self, y, outputs: jnp.sum(y - outputs)}, r"got \(\)\. Sum over"),
    "a log_prob of nothing": ({"log_prob": lambda self, y, outputs: None}, "got NoneType"),
    "an as_target of nothing": (
        {"as_target": lambda self, y, outputs: None},
        "as_target to return the rows of y, got a",
    ),
    "an as_target of one row": ({"as_target": lambda self, y, outputs: y[:1]}, r"the rows of y, got shape \(1, 1\)"),
}


@pytest.mark.parametrize("case", WITH_DATA)
def test_a_likelihood_that_does_not_say_one_number_of_each_row_is_refused_with_data(case):
    members, text = WITH_DATA[case]
    model = bayesian(likelihood=variant(Likelihood, **members))
    for call in (
        lambda: bbb.fit(KEY, model, X, Y, steps=1, progress=False),
        lambda: bbb.objectives.negative_elbo(KEY, model, X, Y),
    ):
        with pytest.raises(ShapeError, match=text):
            call()


def test_a_likelihood_for_training_alone_trains_and_predict_says_what_it_needs():
    model, _ = bbb.fit(KEY, bayesian(variant(Prior), variant(Likelihood)), X, Y, steps=2, progress=False)
    assert bbb.draws(KEY, model, X, draws=4).shape == (4, 6, 1)
    with pytest.raises(InputError, match="with `function` and `mean` and `variance`, which predict needs, got a Mine"):
        bbb.predict(KEY, model, X, draws=4)
    part = variant(Likelihood, probabilities=lambda self, outputs: jax.nn.softmax(outputs))
    with pytest.raises(InputError, match="with `function`, which predict needs"):
        bbb.predict(KEY, dataclasses.replace(model, likelihood=part), X, draws=4)
