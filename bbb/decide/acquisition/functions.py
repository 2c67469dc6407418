"""Thompson samples: one draw of the weights is one function, the same at every row."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bbb import checks, display
from bbb.core.tree import Tree, pytree_dataclass, widest_dtype
from bbb.data import rows_in
from bbb.forwards.linearization import Linearized
from bbb.forwards.sampling import WeightSampling
from bbb.model import BNN, check_model
from bbb.posteriors.ensemble import Ensemble
from bbb.posteriors.protocol import Posterior
from bbb.predictive.evaluation import draws, of_heads
from bbb.tracing import purity

CHOICE = np.uint32(2**32 - 1)
"""What the key of the choice among members is folded with: the draws are folded with their indices."""


def thompson(
    key: jax.Array,
    model: BNN,
    x: Any,
    samples: int = 1,
    *,
    rows: str = "apart",
    memory: int | str = "512MB",
    mesh: Mesh | None = None,
    partition: Tree = None,
) -> Any:
    """Return functions drawn from the posterior, at the rows of x: (samples, rows, ...).

    A sample is the network at one draw of the weights, without noise of y: the same draw for all rows, whatever
    `memory` or the mesh; and the same for every x, so that calls with one key ask one function. Sample s does not
    depend on how many there are. To act by Thompson sampling, do what is best by one sample, with a new key each time::

        chosen = bbb.decide.acquisition.thompson(key, model, x)[0, :, 0].argmax()

    Sample s is the draw s of `bbb.draws`; but of several members, such as an ensemble's, each is of one at random, and
    of a posterior that holds its draws, one of them at random.

    Args:
        key: one typed JAX key.
        model: the Bayesian network; a linearised one gives linearised functions. One of several outputs gives a tree.
        x: (rows, ...), as `predict` takes it.
        samples: how many functions.
        rows: "apart" or "together", as in `predict`.
        memory: bound on the working memory, as in `predict`; the result comes on top.
        mesh: devices, as in `predict`.
        partition: of parameters too large for one device, as in `predict`.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before any draw.
        NonFiniteOutputError: if an output is NaN or infinite; it names the first row.

    Source: Thompson 1933, Biometrika 25, 285; with draws of weights, Blundell et al. 2015, arXiv 1505.05424, §4.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> drawn = bbb.thompson(jax.random.key(1), model, task.x)
        >>> drawn.shape
        (1, 20, 1)
    """
    checks.outside("thompson", "bbb.decide.acquisition.thompson_function", key=key, model=model, x=x)
    checks.key(key)
    check_model(model)
    samples = checks.positive_integer("samples", samples)
    how: dict[str, Any] = {"rows": rows, "memory": memory, "mesh": mesh, "partition": partition}
    if model.joint is not None:
        return of_heads(lambda head: thompson(key, head, x, samples, **how), model)
    if model.members == 1:
        return draws(key, model, x, draws=samples, **how)
    members = np.asarray(_members(key, model, samples))
    return (_of_points if model.posterior.holds_draws else _of_members)(
        members, lambda k, one, count: draws(k, one, x, draws=count, **how), key, model
    )


def thompson_function(key: jax.Array, model: BNN) -> "FunctionDraw":
    """Return one function drawn from the posterior, for any x: sample 0 of `thompson` with this key, up to rounding.

    Both the call and the function can be compiled, and the function differentiated, to look for its maximum over x::

        function = bbb.decide.acquisition.thompson_function(key, model)
        slope = jax.grad(lambda x: function(x[None])[0, 0])

    Args:
        key: one typed JAX key.
        model: the Bayesian network.

    Raises:
        KeyTypeError, InputError: for a key or a model that does not fit.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> function = bbb.decide.thompson_function(jax.random.key(1), model)
        >>> function(task.x).shape
        (20, 1)
    """
    checks.key(key)
    check_model(model)
    k: Any = 0
    inner = key
    if model.members > 1:
        k = _members(key, model, 1)[0]
        inner = jax.random.fold_in(key, k)
    posterior = model.posterior.component(k)
    params = posterior.weights(posterior.noise(jax.random.fold_in(inner, 0)))
    return FunctionDraw(params, posterior, model.forward)


@pytree_dataclass(data=("params", "posterior"), static=("forward",))
class FunctionDraw(display.Displayed):
    """One function of a posterior's: the network, or the linearised one, at one draw of the weights; a pytree.

    Attributes:
        params: the draw.
        posterior: what it is a draw of; of several members, the one.
        forward: the network with random weights.
    """

    params: Tree
    posterior: Posterior
    forward: WeightSampling | Linearized

    def __call__(self, x: Any) -> Any:
        """Return the outputs at the rows of x, (rows, ...).

        Raises:
            InputError, ShapeError, NonFiniteInputError: for an x that does not fit.
        """
        if not checks.is_traced(x):
            x = rows_in(widest_dtype(self.params), "x", x)
            purity.output_shapes(self.forward.apply, self.params, x)
        return self.forward.at(self.params, self.posterior, x)

    def _table_shown(self) -> display.Table:
        network = display.network(self.forward.apply)
        return display.Table("FunctionDraw, one function of a posterior's", [("network", network)])


Drawn = Callable[[jax.Array, BNN, int], jax.Array]
"""`draws` of a key, a model and a number of draws, with all else given."""


def _members(key: jax.Array, model: BNN, samples: int) -> jax.Array:
    """Return which member each sample is of, (samples,)."""
    chosen = jax.random.fold_in(key, CHOICE)
    index = jnp.arange(samples, dtype=jnp.uint32)
    return jax.vmap(lambda s: jax.random.randint(jax.random.fold_in(chosen, s), (), 0, model.members))(index)


def _of_members(members: np.ndarray, drawn: Drawn, key: jax.Array, model: BNN) -> jax.Array:
    """Return samples each of which is the next draw of its member; all members have one program."""
    counts = np.bincount(members)
    place = np.asarray([np.sum(members[:s] == k) for s, k in enumerate(members)])
    found: Any = [None] * len(members)
    for k in np.flatnonzero(counts):
        each = drawn(jax.random.fold_in(key, int(k)), model.member(int(k)), int(np.max(counts)))
        for s in np.flatnonzero(members == k):
            found[s] = each[place[s]]
    return jnp.stack(found)


def _of_points(members: np.ndarray, drawn: Drawn, key: jax.Array, model: BNN) -> jax.Array:
    """Return samples that are points which a posterior holds; each is evaluated once."""
    wanted, where = np.unique(members, return_inverse=True)
    size = max(2, min(len(members), model.members))  # so that few programs serve, and a mixture remains one
    some = np.resize(wanted, size)
    posterior = Ensemble(jax.tree.map(lambda leaf: leaf[some], cast(Ensemble, model.posterior).members))
    return drawn(key, dataclasses.replace(model, posterior=posterior), size)[where]
