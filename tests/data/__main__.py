"""`python -m tests.data`: write the files of this version, and what they predict; for a new version of the format only.

Files that are there already stay: those of a released version are never made again.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bbb
from bbb.likelihoods.per_member import PerMember
from tests.io.test_hostile_files import numbers

FOLDER = Path(__file__).parent
KEY = jax.random.key(3)


def dense(*, outputs=1, **parts):
    """A model of two inputs, with noise of its own in every weight's spread."""
    network = bbb.nn.sequential(
        bbb.nn.affine([0.5, -0.5], [2.0, 1.0]), bbb.nn.linear(2, 4), bbb.nn.tanh, bbb.nn.linear(4, outputs)
    )
    return bbb.bayesianize(network.apply, network.init(KEY), std=0.1, **parts)


def images():
    """A convolutional classifier with running statistics, of which only the weights are Gaussian."""
    nn = bbb.nn
    network = nn.sequential(
        nn.conv(1, 2, 3, padding="same"),
        nn.batch_norm(2),
        nn.relu,
        nn.residual(nn.conv(2, 2, 1), nn.gelu),
        nn.max_pool(2),
        nn.avg_pool(2),
        nn.flatten,
        nn.layer_norm(2),
        nn.dropout(0.1),
        nn.linear(2, 3),
        nn.softplus,
    )
    return bbb.bayesianize(
        network.apply,
        network.init(KEY),
        prior=bbb.priors.Normal(0.0, 0.5),
        likelihood=bbb.likelihoods.Categorical(),
        std=0.1,
        where="weight",
    )


def restarts():
    """Two posteriors, each with noise of its own."""
    one = dense(prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3, learn=True))
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.5]), one.posterior)
    noise = PerMember(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1.0]), one.likelihood))
    return bbb.BNN(one.apply, bbb.posteriors.Ensemble(members), one.prior, noise)


def full_rank():
    """A posterior in which weights depend on each other."""
    one = dense(prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3))
    start = bbb.posteriors.FullRank.around(one.posterior.params, 0.1)
    lower = jax.random.normal(KEY, start.lower.shape)
    return bbb.BNN(one.apply, bbb.posteriors.FullRank(start.mean, start.log_diagonal, lower), one.prior, one.likelihood)


def low_rank_precision():
    """A posterior of a diagonal precision and three rows."""
    one = full_rank()
    factor = 10 * jax.random.normal(KEY, (3, len(one.posterior.lower)))
    posterior = bbb.posteriors.LowRankPrecision.of(one.posterior.mean, one.posterior.log_diagonal, factor)
    return bbb.BNN(one.apply, posterior, one.prior, one.likelihood)


def low_rank():
    """A posterior of a diagonal covariance and three directions."""
    one = full_rank()
    factor = jax.random.normal(KEY, (len(one.posterior.lower), 3))
    posterior = bbb.posteriors.LowRank(one.posterior.mean, one.posterior.log_diagonal, factor)
    return bbb.BNN(one.apply, posterior, one.prior, one.likelihood)


def learned_prior():
    """A prior of weights that depend on each other: the posterior of the data before."""
    one = full_rank()
    return bbb.BNN(one.apply, one.posterior, bbb.priors.MultivariateNormal(one.posterior), one.likelihood)


def draws():
    """Four draws of the weights, of which the biases were not sampled."""
    one = dense(prior=bbb.priors.Normal(), likelihood=bbb.likelihoods.Gaussian(0.3))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf + 0.1 * i for i in range(4)]), one.posterior.mean)
    drawn = jax.tree.map(lambda leaf: leaf if leaf.ndim == 3 else None, several)
    fixed = jax.tree.map(lambda leaf: None if leaf.ndim == 3 else leaf, several)
    posterior = bbb.posteriors.Ensemble(bbb.posteriors.Point(drawn, fixed))
    return bbb.BNN(one.apply, posterior, one.prior, one.likelihood)


def kronecker():
    """A posterior of two bases for each leaf."""
    one = full_rank()
    means, stds = one.posterior.mean, one.posterior.log_diagonal
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    model = bbb.BNN(one.apply, bbb.MeanField(means, stds), one.prior, one.likelihood)
    posterior = bbb.laplace(KEY, model, x, one.apply(means, x), structure="kron").posterior
    return bbb.BNN(one.apply, posterior, one.prior, one.likelihood)


def models():
    """Return a model of every kind, by the name of its file."""
    prior, likelihood = bbb.priors, bbb.likelihoods
    yield "gaussian", dense(prior=prior.Normal(0.0, 0.5), likelihood=likelihood.Gaussian(0.3, learn=True))
    yield "student-t", dense(prior=prior.Laplace(), likelihood=likelihood.StudentT(0.3, 5.0, learn=True, learn_df=True))
    yield "two-headed", dense(outputs=2, prior=prior.ScaleMixture(), likelihood=likelihood.HeteroscedasticGaussian())
    bounded = likelihood.BoundedHeteroscedasticGaussian(0.5, reach=2.0)
    yield "bounded-two-headed", dense(outputs=2, prior=prior.Normal(), likelihood=bounded)
    yield "counts", dense(prior=prior.EmpiricalNormal(per="layer"), likelihood=likelihood.Poisson())
    yield (
        "negative-binomial",
        dense(
            prior=prior.Normal((0.0, {"weight": 0.0, "bias": 1.0}, (), 0.0), 1.0),
            likelihood=likelihood.NegativeBinomial(0.5, learn=True),
        ),
    )
    partial = likelihood.PartiallyObserved(likelihood.Gaussian(0.3))
    yield "partially-observed", dense(prior=prior.Normal(), likelihood=partial)
    yield "bernoulli", dense(prior=prior.Normal(), likelihood=likelihood.Bernoulli())
    yield "images", images()
    yield "restarts", restarts()
    yield "full-rank", full_rank()
    yield "low-rank-precision", low_rank_precision()
    yield "low-rank", low_rank()
    yield "draws", draws()
    yield "kronecker", kronecker()
    yield "learned-prior", learned_prior()


def main():
    """Write what is not there."""
    path = FOLDER / "models.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    for kind, model in models():
        name, rng = f"{kind}-v1.safetensors", np.random.default_rng(0)
        if name in stored:
            continue
        x = rng.normal(size=(3, 1, 4, 4) if kind == "images" else (3, 2)).astype(np.float32)
        metadata = {"version": bbb.__version__, "kind": kind}
        bbb.save(FOLDER / name, model, metadata)
        made = numbers(bbb.predict(jax.random.key(7), model, x, draws=200))
        found = {part: np.asarray(value, float).round(7).tolist() for part, value in made.items()}
        stored[name] = {"x": x.tolist(), "numbers": found, "metadata": metadata}
    path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
