"""What the report says: nothing of chains that agree, and by name what is bad."""

import dataclasses
import html

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bbb
from bbb.mcmc.chains import Draws, Sampler
from bbb.mcmc.report import report_of
from tests.mcmc.models import KEY, ensemble

HMC, NUTS = Sampler("hmc", 8), Sampler("nuts", 3)


def folded(params, x):
    """A function that is seen to the right of 0 by its square alone, so that both signs fit."""
    return jnp.where(x > 0, jnp.square(params["w"])[None], params["w"][None])


@pytest.fixture(scope="module")
def apart():
    """Return the report of four chains of which the third is in the other mode."""
    model = bbb.bayesianize(
        folded, {"w": jnp.ones(1)}, prior=bbb.priors.Normal(0.0, 2.0), likelihood=bbb.likelihoods.Gaussian(0.1)
    )
    x, y = np.ones((5, 1)), np.full((5, 1), 1.0)
    watch = np.array([[-1.0], [1.0]])
    return bbb.mcmc.hmc(KEY, ensemble(model, 0.0, 0.0, -2.0, 0.0), x, y, watch=watch, draws=60, warmup=60, steps=5)


def test_a_chain_that_has_not_mixed_is_named(apart):
    sampled, report = apart
    signs = np.sign(np.asarray(sampled.posterior.members.drawn["w"])[:, 0]).reshape(60, 4)
    np.testing.assert_array_equal(signs[-1], [1, 1, -1, 1])
    assert report.f.rhat[0] > 1.5
    assert report.f.rhat[1] < 1.1  # the function among the data, which both signs share
    assert report.apart.argmax() == 2
    assert report.apart[2] > 10
    assert [problem for problem in report.problems if problem.startswith("Chain")] == [
        problem for problem in report.problems if problem.startswith("Chain 2 stays apart: its mean of f is ")
    ]
    assert report.problems[0].startswith("The chains do not agree: R-hat of f is ")
    assert any(problem.startswith("The draws are worth few: ") for problem in report.problems)


def test_it_is_shown_in_words(apart):
    _, report = apart
    lines = str(report).split("\n")
    assert lines[0] == "4 chains of 60 draws, after 60 to warm up"
    assert [line.strip().split("  ")[0] for line in lines[1:7]] == [
        "R-hat of f",
        "ESS of f",
        "ESS of its tails",
        "R-hat of weights",
        "acceptance",
        "trajectory",
    ]
    for problem in report.problems:
        assert problem in str(report)
        assert html.escape(problem) in report._repr_html_()
    assert str(report).isascii()


def of(f, sampler=HMC, **other):
    """Return the report of such draws, (draws, chains, rows)."""
    draws, chains, _ = f.shape
    parts = {
        "position": jnp.asarray(f),
        "f": jnp.asarray(f),
        "acceptance": jnp.full((draws, chains), 0.8),
        "divergences": jnp.zeros((draws, chains), int),
        "steps": jnp.full((draws, chains), 5),
        "step_size": jnp.full(chains, 0.1),
    }
    return report_of(Draws(**{**parts, **other}), sampler, 10, 1)


REFUSED = jnp.full((200, 4), 0.8).at[:, 1].set(0.1)
NORMAL = np.random.default_rng(0).normal(size=(200, 4, 3)).astype(np.float32)


def test_independent_draws_have_no_problem_and_are_worth_what_they_are():
    report = of(NORMAL)
    assert report.problems == ()
    assert str(report).endswith("look at           nothing: the chains agree")
    assert ((report.f.ess_bulk > 400) & (report.f.ess_bulk < 1_600)).all()
    assert (report.f.rhat < 1.02).all()
    assert (report.apart < 0.3).all()


@pytest.mark.parametrize(
    ("said", "given", "sampler"),
    [
        ("3 of 800 trajectories diverged", {"divergences": jnp.zeros((200, 4), int).at[:3, 1].set(1)}, HMC),
        (
            "Chain 1 rejects what it tries: its acceptance is 0.10.",
            {"acceptance": jnp.full((200, 4), 0.8).at[:, 1].set(0.1)},
            HMC,
        ),
        ("100% of trajectories end at 2^3 steps before they turn", {"steps": jnp.full((200, 4), 7)}, NUTS),
    ],
)
def test_what_is_bad_is_said_with_what_to_do(said, given, sampler):
    (problem,) = of(NORMAL, sampler, **given).problems
    assert said in problem
    assert "Pass " in problem


def test_draws_that_follow_each_other_are_worth_less():
    slow = np.repeat(NORMAL[:40], 5, axis=0)
    report = of(slow)
    (problem,) = [problem for problem in report.problems if problem.startswith("The draws are worth few")]
    assert report.f.ess_bulk.min() < 200
    assert "independent ones at the worst row, where 100 would do. Pass draws=" in problem or "more draws" in problem


def test_what_never_moved_is_a_problem():
    report = of(np.zeros_like(NORMAL))
    assert report.problems
    assert "R-hat of f is nan" in report.problems[0]


def test_a_chain_that_stays_where_it_is_is_named_too():
    stuck = np.zeros_like(NORMAL)
    stuck[:, 3] = 7
    assert of(stuck).apart.tolist() == [0, 0, 0, pytest.approx(1e6)]
    assert any(problem.startswith("Chain 3 stays apart") for problem in of(stuck).problems)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        of(NORMAL).chains = 3
    assert jax.tree.leaves(of(NORMAL))
