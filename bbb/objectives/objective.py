"""The objective: what training minimises.

A cost is a function of the network's outputs, so that the same training loop serves every cost and every forward:

    cost(model, outputs, y, row_weights, num_data, kl_weight) -> Cost

with outputs of shape (draws, rows, ...), y of shape (rows, ...), and row_weights of shape (rows,), in the dtype of the
outputs, 0 for padding. `exact_elbo_cost` takes the outputs' moments instead of draws: its attribute `forward` makes
what gives them, and `fit` then takes that.

A cost multiplies Σ row_weights·log p by num_data / Σ row_weights. `contract_of` makes of these an estimate of the sum
over the whole data set that has no bias, whether each row counts once or has a weight of its own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bbb import checks
from bbb.core.ability import implements
from bbb.core.rows import count_rows, one_row
from bbb.core.tree import Tree, widest_dtype
from bbb.data import data_for, is_tree, rows_for, weights_for
from bbb.errors import InputError, ShapeError, UnknownPrimitiveError, fail
from bbb.forwards.select import Forward, as_forward
from bbb.likelihoods.protocol import SupportsExpectedLogProb
from bbb.model import BNN
from bbb.moments.api import moments
from bbb.posteriors.gaussian import GaussianPosterior
from bbb.posteriors.protocol import Posterior
from bbb.priors.divergence import KL_DRAWS, WithNoise, kl, with_noise


class Cost(NamedTuple):
    """A cost and its parts, all scalars.

    `total` is what is minimised; `data_term` its first part, in the units of the cost; `kl` is KL(posterior ‖ prior)
    itself, in nats, unweighted; `kl_std_error` its Monte Carlo standard error, None where it has a closed form. A cost
    function leaves that to who called it.
    """

    total: jax.Array
    data_term: jax.Array
    kl: jax.Array
    kl_std_error: jax.Array | None = None


CostFunction = Callable[..., Cost]
"""`cost(model, outputs, y, row_weights, num_data, kl_weight) -> Cost`."""


def contract_of(counts: jax.Array, sample_weight: jax.Array | None, rows: int) -> tuple[jax.Array, Any]:
    """Return the row_weights and num_data of a cost, for a batch of a data set of so many rows.

    Of B rows that count, with weights w, num_data is (rows/B)·Σw: what all weights sum to, as far as the batch says.
    Then num_data / Σw·Σ w·log p is (rows/B)·Σ w·log p, whose expectation over batches is the sum over all rows. The sum
    of all weights itself in its place would make it a ratio of two estimates, which is biased. On all rows both agree.

    Args:
        counts: (rows of the batch,), 1 for a row and 0 for padding, in the dtype of the outputs.
        sample_weight: likewise, how often each row counts; None for once, where num_data is `rows` itself.
        rows: of the whole data set.
    """
    if sample_weight is None:
        return counts, rows
    weights = counts * sample_weight.astype(counts.dtype)
    total = jnp.sum(weights)
    # where no row of a batch counts, its cost is 0, and not 0/0
    return jnp.where(total > 0, weights, counts), rows / jnp.sum(counts) * total


def elbo_cost(
    model: BNN,
    outputs: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
    num_data: int | jax.Array,
    kl_weight: float | jax.Array,
) -> Cost:
    """Return the negative evidence lower bound, in nats over the whole data set.

    −ELBO = −(num_data / rows)·E_q[Σ log p(y | x, w)] + kl_weight·KL(q ‖ p), the expectation a mean over draws. Rows
    with weights are summed with these, and `rows` is the sum of the weights.

    Source: Blundell et al. 2015, arXiv 1505.05424, eq. 1 and 2.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> objective = bbb.train.Objective(
        ...     bbb.objectives.elbo_cost, draws=2
        ... )  # the default, of two draws a step
        >>> how = {"steps": 20, "progress": False, "objective": objective}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> history.loss.shape
        (20,)
    """
    log_probs = jax.vmap(model.likelihood.log_prob, in_axes=(None, 0))(y, outputs)  # (draws, rows)
    per_row = jnp.mean(log_probs, axis=0)
    data_term = -jnp.dot(per_row, row_weights) * (num_data / jnp.sum(row_weights))
    divergence = kl(model.posterior, model.prior)
    return Cost(data_term + kl_weight * divergence, data_term, divergence)


@dataclasses.dataclass(frozen=True)
class Integrated:
    """A forward without chance: the exact mean and variance of the outputs, stacked as (2, rows, ...)."""

    apply: Any

    def __post_init__(self) -> None:
        """Raise for a network with a training mode, whose dropout or statistics no closed form knows."""
        if hasattr(self.apply, "train"):
            do = "Leave the objective out, to train on draws of the weights."
            got = "one with dropout or statistics"
            fail(InputError, "a network without a training mode for exact_elbo_cost", got, do)

    def noise(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> Tree:
        """Return nothing: no random number is needed."""
        del key, posterior, x
        return ()

    def evaluate(self, noise: Tree, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Return the two moments of the outputs, (2, rows, ...).

        Raises:
            InputError: if the network's moments are not exact.
            UnknownPrimitiveError: if it has no closed form at all.
        """
        del noise
        closed = moments(self.apply)
        assumed = closed.exactness(posterior, x).assumptions
        if assumed:
            what, primitive, where = assumed[0]
            got = f"one where {what} (`{primitive}` at {where})"
            expected = "a network whose moments are exact, such as one of one hidden layer"
            fail(InputError, expected, got, "Leave the objective out, to train on draws of the weights.")
        return jnp.stack(closed(posterior, x))

    def __call__(self, key: jax.Array, posterior: Posterior, x: jax.Array) -> jax.Array:
        """Return the two moments of the outputs, (2, rows, ...)."""
        return self.evaluate(self.noise(key, posterior, x), posterior, x)


def exact_elbo_cost(
    model: BNN,
    outputs: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
    num_data: int | jax.Array,
    kl_weight: float | jax.Array,
) -> Cost:
    """Return the negative evidence lower bound without Monte Carlo error, in nats over the whole data set.

    `fit(..., objective=exact_elbo_cost)` integrates the weights out at every step instead of drawing them, where that
    is exact: for a network of one hidden layer, or linear, and a Gaussian likelihood. On all rows at once, with a prior
    whose KL has a closed form, the objective is then deterministic; minibatches keep their own noise.

    Args:
        model: the Bayesian network.
        outputs: (1, 2, rows, ...): what `Integrated` gives, the mean and the variance of the outputs.
        y: (rows, ...).
        row_weights: (rows,).
        num_data: rows of the whole data set, or what their weights sum to.
        kl_weight: the weight of the KL.

    Raises:
        InputError: if the likelihood is not Gaussian, or the moments of the network are not exact.
        ShapeError: if the outputs are not such moments.

    Source: E_q[log p(y | f)] of a Gaussian likelihood depends on the mean and the variance of f alone, as in Wu et al.
    2019, arXiv 1810.03958, §3.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> how = {"steps": 20, "progress": False, "objective": bbb.objectives.exact_elbo_cost}
        >>> model, history = bbb.fit(jax.random.key(1), model, task.x, task.y, **how)
        >>> history.loss.shape
        (20,)
    """
    likelihood = model.likelihood
    if not implements(likelihood, SupportsExpectedLogProb):
        do = "Leave the objective out, to train on draws of the weights."
        got = f"a {type(likelihood).__name__}"
        fail(InputError, "a Gaussian likelihood for exact_elbo_cost", got, do)
    if outputs.ndim < 2 or outputs.shape[:2] != (1, 2):
        do = "Leave forward and draws out: the objective brings a forward of its own, and needs no draws."
        expected = "outputs of shape (1, 2, rows, ...), their mean and variance, for exact_elbo_cost"
        fail(ShapeError, expected, f"shape {outputs.shape}", do)
    per_row = likelihood.expected_log_prob(y, *outputs[0])
    data_term = -jnp.dot(per_row, row_weights) * (num_data / jnp.sum(row_weights))
    divergence = kl(model.posterior, model.prior)
    return Cost(data_term + kl_weight * divergence, data_term, divergence)


exact_elbo_cost.forward = Integrated  # type: ignore[attr-defined]


def has_exact_elbo(model: BNN, x: Any) -> bool:
    """Return whether `exact_elbo_cost` can train a model on x, (rows, ...): by a trace, so that nothing is computed."""
    if not implements(model.likelihood, SupportsExpectedLogProb) or hasattr(model.apply, "train"):
        return False
    if model.linearized:  # which `fit` refuses
        return False
    if not (isinstance(model.posterior, GaussianPosterior) and model.posterior.factorises):
        return False
    row = _row_of(model, x)
    try:
        return moments(model.apply).exactness(model.posterior, row).exact
    except UnknownPrimitiveError:
        return False


def _row_of(model: BNN, x: Any) -> Tree:
    """Return the shapes of one row of data that were not checked: of an array, whatever it holds, as numbers."""
    if is_tree(x):
        return one_row(rows_for(model, "x", x))
    return jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), widest_dtype(model.posterior.params))


def negative_elbo(
    key: jax.Array,
    model: BNN,
    x: Any,
    y: Any,
    num_data: int | None = None,
    *,
    kl_weight: float = 1.0,
    draws: int = 1,
    forward: Callable[..., jax.Array] | None = None,
    sample_weight: ArrayLike | None = None,
) -> tuple[jax.Array, Cost]:
    """Estimate the negative evidence lower bound from `draws` draws: nats, over the whole data set.

    With weights w of the rows of a batch, the data term is −(num_data / rows)·Σ wᵢ·log p(yᵢ | xᵢ): without bias, and
    not divided by the weights.

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        x: (rows, ...), all the data or a batch of it.
        y: the shape of the network's outputs, (rows, ...).
        num_data: rows of the whole data set, where x is a batch of it; by default the rows of x.
        kl_weight: 1 for the bound itself; less tempers the prior.
        draws: how many draws of the weights the data term is averaged over.
        forward: how the network is made random; by default `model.forward`, with one draw of the weights for all rows.
        sample_weight: (rows,), at least 0: how often each row counts; by default once. A row of weight 2 counts like
            two of it. All may be 0 in a batch alone, where `num_data` is given.

    Returns:
        The scalar to minimise, and its parts.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> loss, cost = bbb.objectives.negative_elbo(jax.random.key(1), model, task.x, task.y)
        >>> bool(abs(loss - (cost.data_term + cost.kl)) < 1e-3 * loss)  # nats, of all rows
        True
    """
    checks.key(key)
    checks.not_negative("kl_weight", kl_weight)
    draws = checks.positive_integer("draws", draws)
    x, y = data_for(model, x, y)
    rows = count_rows(y)
    weights = weights_for(model, sample_weight, rows, of_batch=num_data is not None)
    num_data = rows if num_data is None else checks.positive_integer("num_data", num_data)
    random = as_forward(model.forward if forward is None else forward)
    noise = jax.vmap(lambda k: random.noise(k, model.posterior, x))(draw_keys(key, draws))
    outputs = evaluate_draws(random, noise, model, x, draws)
    model = with_kl_noise(jax.random.fold_in(key, np.uint32(KL_KEY)), model, draws)
    contract = contract_of(jnp.ones(rows, widest_dtype(outputs)), weights, num_data)
    cost = with_std_error(elbo_cost(model, outputs, y, *contract, kl_weight), model)
    return cost.total, cost


KL_KEY = 2**32 - 2
"""The key of the noise that a KL without a closed form is estimated from."""


def with_kl_noise(key: jax.Array, model: BNN, draws: int) -> BNN:
    """Return the model whose prior has the noise to estimate its KL from, if it needs any, so that any cost can ask."""
    posterior: Any = model.posterior
    return dataclasses.replace(model, prior=with_noise(key, model.prior, posterior, max(draws, KL_DRAWS)))


def with_std_error(cost: Cost, model: BNN) -> Cost:
    """Add the standard error of the KL, if that was estimated."""
    if not isinstance(model.prior, WithNoise):
        return cost
    posterior: Any = jax.lax.stop_gradient(model.posterior)
    return cost._replace(kl_std_error=model.prior.kl_std_error(posterior.marginals()))


def draw_keys(key: jax.Array, draws: int) -> jax.Array:
    """Return a key for every draw, which depends on its index alone."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(draws))


def evaluate_draws(forward: Forward, noise: Tree, model: BNN, x: jax.Array, draws: int) -> jax.Array:
    """Run the network once for each of the draws of `noise`, which may be empty: outputs (draws, rows, ...)."""
    if draws == 1:  # a batch of one costs a batched product, and buys nothing
        outputs = forward.evaluate(jax.tree.map(lambda leaf: leaf[0], noise), model.posterior, x)
        return jax.tree.map(lambda leaf: leaf[None], outputs)
    return jax.vmap(lambda e: forward.evaluate(e, model.posterior, x), axis_size=draws)(noise)
