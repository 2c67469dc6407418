"""Optax's optimisers: each trains, or is refused by name before the first step."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import bbb
from bbb.objectives import optimizers
from bbb.objectives.objective import Cost
from tests.same import assert_same, assert_same_history

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)


def adam():
    return optax.adam(1e-2)


def adversary():
    return optax.chain(contrib.normalize(), optax.sgd(0.05))


def all_true(tree):
    return jax.tree.map(lambda _: True, tree)


PLAIN = (
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad"),
    *("fromage", "lamb", "lars", "lion", "novograd", "optimistic_gradient_descent"),
    *("radam", "rmsprop", "rprop", "sgd", "sign_sgd", "yogi", "polyak_sgd"),
)
CONTRIB = (
    *("acprop", "ademamix", "adopt", "cocob", "dadapt_adamw", "dog", "dowg", "madgrad", "momo", "momo_adam", "muon"),
    *("prodigy", "schedule_free_adamw", "schedule_free_sgd", "sophia"),
)
FREE = ("cocob", "dadapt_adamw", "dog", "dowg", "momo", "momo_adam", "prodigy")
"""Those of a learning rate of their own."""

MAKES = {name: partial(getattr(optax, name), 1e-2) for name in PLAIN if hasattr(optax, name)}
MAKES |= {
    name: partial(getattr(contrib, name), *([] if name in FREE else [1e-2]))
    for name in CONTRIB
    if hasattr(contrib, name)  # the oldest optax that is supported has not all of them
}
MAKES |= {
    "lbfgs": optax.lbfgs,
    "lbfgs without a search": lambda: optax.lbfgs(1e-2, linesearch=None),
    "backtracking": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15)),
    "zoom": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(15)),
    "plateau": lambda: optax.chain(adam(), contrib.reduce_on_plateau()),
    "opaque sam": lambda: contrib.sam(adam(), adversary(), opaque_mode=True),
    "mechanize": lambda: contrib.mechanize(adam()),
    "schedule_free": lambda: contrib.schedule_free(adam(), 1e-2),
    "MultiSteps": lambda: optax.MultiSteps(adam(), 2),
    "MultiSteps of plateau": lambda: optax.MultiSteps(optax.chain(adam(), contrib.reduce_on_plateau()), 2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(optax.linear_schedule(1e-2, 1e-3, 100)),
    "masked": lambda: optax.masked(adam(), all_true),
    "multi_transform": lambda: optax.multi_transform({True: adam()}, all_true),
    "apply_if_finite": lambda: optax.apply_if_finite(adam(), 3),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), adam()),
    "adaptively clipped": lambda: optax.chain(optax.adaptive_grad_clip(0.1), adam()),
    "averaged": lambda: optax.chain(adam(), optax.ema(0.9)),
    "flattened": lambda: optax.flatten(adam()),
    "named": lambda: optax.named_chain(("only", adam())),
    "with extra arguments": lambda: optax.with_extra_args_support(adam()),
}

START = {"mean": np.full((2, 3), 2.0, np.float32), "log_std": np.full(3, -1.0, np.float32)}


def quadratic(params):
    return sum(jnp.sum(jnp.square(leaf - 0.5)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", MAKES)
def test_an_optimizer_of_optax_passes_the_check(name):
    optimizers.check(MAKES[name](), START)


ASKING = ("polyak_sgd", "momo", "lbfgs", "backtracking", "plateau", "opaque sam", "sophia", "MultiSteps of plateau")


@pytest.mark.parametrize("name", ASKING)
def test_an_optimizer_that_asks_for_more_than_the_gradient_makes_a_cost_fall(name):
    optimizer, params = MAKES[name](), START
    state = optimizers.init(optimizer, params)
    with jax.disable_jit():  # one small program for each operation serves all optimisers
        for _ in range(4):
            slope = optimizers.Slope(quadratic(params), jax.grad(quadratic)(params), quadratic)
            params, state = optimizers.update(optimizer, slope, state, params)
    assert quadratic(params) < quadratic(START)


# --- what cannot train -----------------------------------------------------------------------------------------------


def unhashable():
    class Unhashable:
        __hash__ = None
        init, update = adam().init, adam().update

    return Unhashable()


def growing(update=lambda state: jnp.concatenate([state, state])):
    return optax.GradientTransformation(
        lambda params: jnp.zeros(3, jnp.float32), lambda updates, state, params=None: (updates, update(state))
    )


def failing(params):
    raise RuntimeError("out of luck\nand more")


EXPECTED = "Expected an optimizer that trains one tree of parameters by its gradient, got "
REFUSED = {
    "lookahead": (
        lambda: optax.lookahead(adam(), 5, 0.5),
        "a lookahead, which trains a pair .* Pass its fast optimizer",
    ),
    "wrapped lookahead": (
        lambda: optax.chain(optax.clip(1.0), optax.masked(optax.lookahead(adam(), 5, 0.5), all_true)),
        "a lookahead",
    ),
    "sam": (lambda: contrib.sam(adam(), adversary()), "sam in transparent mode, .* Pass opaque_mode=True to"),
    "sm3": (lambda: optax.sm3(1e-2), "an error of its update: IndexError"),
    "init": (
        lambda: optax.GradientTransformation(failing, adam().update),
        "an error of its init: RuntimeError: out of l",
    ),
    "a shape": (
        growing,
        r"one whose update turns the state '' from float32\[3\] into float32\[6\]\. Make update return",
    ),
    "a dtype": (
        lambda: growing(lambda state: state > 0),
        r"one whose update turns the state '' from float32\[3\] into bool\[3\]",
    ),
    "a structure": (
        lambda: growing(lambda state: (state, state)),
        "one whose update changes the structure of the state",
    ),
}


def model(network=bbb.nn.sequential(bbb.nn.linear(2, 2), bbb.nn.tanh, bbb.nn.linear(2, 1))):  # noqa: B008
    return bbb.bayesianize(
        network.apply,
        network.init(jax.random.key(0)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian(0.3, learn=True),
    )


X = RNG.normal(size=(7, 2))
Y = X[:, :1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_train_is_refused_before_the_first_step(name, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bbb.train.api"), "train", lambda *args: pytest.fail("trained"))
    make, got = REFUSED[name]
    with pytest.raises(bbb.errors.InputError, match=EXPECTED + got):
        bbb.fit(KEY, model(), X, Y, steps=2, optimizer=make())


def test_an_optimizer_without_a_hash_is_refused():
    with pytest.raises(bbb.errors.InputError, match="Expected optimizer to be hashable, got a Unhashable that is not"):
        bbb.fit(KEY, model(), X, Y, steps=2, optimizer=unhashable())


def test_a_plain_wrapper_gets_no_arguments_that_it_would_hand_on_in_vain():
    inner = adam()

    def update(*args, **kwargs):
        return inner.update(*args, **kwargs)

    wrapper = optax.GradientTransformation(inner.init, update)
    optimizers.check(wrapper, START)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"at least 30 draws with an optimizer .* lbfgs, got draws=1\. Pass bbb\.train\.Objective\(draws=30\)",
        ),
        ({"objective": bbb.train.Objective(draws=29)}, r"at least 30 draws .* got draws=29\."),
        (
            {"objective": bbb.train.Objective(draws=40), "batch_size": 3},
            r"all rows at every step with .* lbfgs, got batch_size=3\. Leave batch_size out",
        ),
    ],
)
def test_lbfgs_is_refused_where_every_step_is_of_another_function(options, message):
    with pytest.raises(bbb.errors.InputError, match=message):
        bbb.fit(KEY, model(), X, Y, steps=2, optimizer=optax.lbfgs(), **options)


# --- one function at every step --------------------------------------------------------------------------------------


class Exact:
    """A forward without noise of a line x @ w: the outputs' exact mean and variance."""

    def noise(self, key, posterior, x):
        del key, posterior, x
        return ()

    def evaluate(self, noise, posterior, x):
        del noise
        return jnp.stack([x @ posterior.mean, jnp.square(x) @ jnp.square(posterior.std)])

    def __call__(self, key, posterior, x):
        return self.evaluate(self.noise(key, posterior, x), posterior, x)


def exact_cost(model, outputs, y, row_weights, num_data, kl_weight):
    mean, variance = outputs[0]
    lost = jnp.sum(variance / (2 * model.likelihood.variance(mean)), axis=1)
    data_term = -jnp.dot(model.likelihood.log_prob(y, mean) - lost, row_weights)
    kl = bbb.priors.kl(model.posterior, model.prior)
    return Cost(data_term + kl_weight * kl, data_term, kl)


DESIGN = np.linalg.qr(RNG.normal(size=(30, 2)))[0] * [40.0, 1.5]  # badly scaled: Adam takes thousands of steps
TARGET = DESIGN @ [[0.8], [-1.5]] + 0.5 * RNG.normal(size=(30, 1))
PRECISION = (DESIGN**2).sum(0) / 0.5**2 + 1.0
EXACT_MEAN, EXACT_STD = DESIGN.T @ TARGET / 0.5**2 / PRECISION[:, None], PRECISION[:, None] ** -0.5


def product(w, x):
    return x @ w


def line(std=0.3):
    return bbb.bayesianize(
        product,
        jnp.zeros((2, 1)),
        prior=bbb.priors.Normal(),
        likelihood=bbb.likelihoods.Gaussian([0.5]),
        std=std,
    )


LBFGS = optax.lbfgs()


def test_lbfgs_finds_the_exact_posterior_in_a_few_steps():
    exact = bbb.train.Objective(exact_cost, forward=Exact())
    after, history = bbb.fit(KEY, line(), DESIGN, TARGET, steps=40, optimizer=LBFGS, objective=exact)
    np.testing.assert_allclose(after.posterior.mean, EXACT_MEAN, rtol=1e-3)
    np.testing.assert_allclose(after.posterior.std, EXACT_STD, rtol=1e-3)
    assert (np.diff(history.loss) <= 1e-5 * np.abs(history.loss[:-1])).all()


@pytest.fixture
def few(monkeypatch):
    """Look at the numbers often, so that trainings of any length are one program."""
    monkeypatch.setattr(importlib.import_module("bbb.train.plan"), "MAX_CHUNK", 4)


def test_lbfgs_has_one_noise_and_goes_on_bit_for_bit(few, tmp_path):
    options = {"optimizer": LBFGS, "objective": bbb.train.Objective(draws=30)}
    whole, history = bbb.fit(KEY, line(), DESIGN, TARGET, steps=12, **options)
    assert (np.diff(history.loss) <= 1e-5 * np.abs(history.loss[:-1])).all()  # of one function
    np.testing.assert_allclose(whole.posterior.std, EXACT_STD, rtol=0.5)  # of 30 draws
    bbb.fit(KEY, line(), DESIGN, TARGET, steps=7, checkpoints=tmp_path, **options)
    again, resumed = bbb.fit(
        KEY, line(), DESIGN, TARGET, steps=12, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), **options
    )
    assert_same(whole, again)
    assert_same_history(history, resumed)
    with pytest.raises(bbb.errors.InputError, match="got another kind of optimizer: its steps share one noise"):
        bbb.fit(
            KEY,
            line(),
            DESIGN,
            TARGET,
            steps=13,
            checkpoints=bbb.train.Checkpointing(tmp_path, resume=True),
            objective=bbb.train.Objective(draws=30),
        )


@pytest.mark.parametrize("name", ["opaque sam", "plateau"])
def test_an_optimizer_that_asks_for_more_goes_on_bit_for_bit(name, few, tmp_path):
    options = {"optimizer": MAKES[name](), "batch_size": 7}
    whole, history = bbb.fit(KEY, line(), DESIGN, TARGET, steps=12, **options)
    bbb.fit(KEY, line(), DESIGN, TARGET, steps=7, checkpoints=tmp_path, **options)
    again, resumed = bbb.fit(
        KEY, line(), DESIGN, TARGET, steps=12, checkpoints=bbb.train.Checkpointing(tmp_path, resume=True), **options
    )
    assert_same(whole, again)
    assert_same_history(history, resumed)
    assert history.loss[-3:].mean() < history.loss[:3].mean()


def test_an_optimizer_that_ignores_what_is_passed_gives_the_same_bits():
    inner = adam()
    trained = [
        bbb.fit(KEY, line(), DESIGN, TARGET, steps=12, optimizer=optimizer)[0]
        for optimizer in (inner, optax.with_extra_args_support(inner))
    ]
    assert_same(*trained)
