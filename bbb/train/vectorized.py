"""Training of several networks of one shape, each on data of its own, in one program."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bbb import checks
from bbb.core.tree import Tree, member_of, stacked
from bbb.errors import InputError, KeyTypeError, ShapeError, fail
from bbb.inference import DEFAULT, FINISH_KEY, method_of
from bbb.model import BNN
from bbb.objectives.objective import CostFunction
from bbb.train.data.rows import training_data
from bbb.train.history import History
from bbb.train.loop import train
from bbb.train.options import Objective, as_option
from bbb.train.plan import INSTEAD, plan, weight_of
from bbb.train.steps.state import TrainInputs


def fit_each(
    keys: jax.Array,
    models: Sequence[BNN],
    x: Any,
    y: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    objective: Objective | CostFunction | None = None,
    posterior: str | None = None,
    progress: bool | None = None,
    sample_weight: Any = None,
) -> tuple[list[BNN], list[History]]:
    """Train several Bayesian networks of one shape, each on data of its own, side by side in one program.

    Member k is trained as `fit(keys[k], models[k], x[k], y[k], ...)` trains it with the same options, to rounding;
    members share nothing but the compiled program.

    Args:
        keys: (members,) typed JAX keys, such as `jax.random.split(key, members)`.
        models: what `bayesianize` returned, for each member: the same network, prior and likelihood in other numbers.
        x: (members, rows, ...), finite; or a sequence of arrays (rows, ...).
        y: (members, rows, ...), likewise.
        steps: as for `fit`.
        epochs: as for `fit`.
        optimizer: as for `fit`.
        batch_size: as for `fit`.
        objective: as for `fit`.
        posterior: "mean_field", what training learned, which is the default; "laplace", a Laplace posterior around its
            means, with all correlations if these fit in 2 GB, and with noise to go with it: see `bbb.laplace`; or
            "hmc", draws of Markov chains from there, with a warning for what is wrong with them: see `bbb.mcmc.hmc`.
        progress: as for `fit`.
        sample_weight: (members, rows), as for `fit`; or a sequence of arrays (rows,).

    Returns:
        The trained models, and the history of each.

    Raises:
        KeyTypeError, InputError, ShapeError, NonFiniteInputError: for arguments that do not fit, before training.
        NonFiniteOutputError: if a Gauss-Newton is NaN or infinite.
        NonFiniteLossError: if a loss or a parameter of any member turns non-finite; it names the member, and its model
            and history are that member's.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> keys, models = jax.random.split(jax.random.key(1), 2), [model, model]
        >>> x, y = [task.x, task.x + 1], [task.y, task.y]
        >>> models, histories = bbb.train.fit_each(keys, models, x, y, steps=20, progress=False)
        >>> len(models), histories[0].loss.shape
        (2, (20,))
    """
    objective = as_option(Objective, objective) or Objective()
    checks.boolean("progress", progress is not None and progress)
    checks.is_a("models", models, Sequence, "Pass a list of models.")
    models, method = list(models), method_of(DEFAULT if posterior is None else posterior)
    given = {"keys": keys, "models": models, "x": x, "y": y, "sample_weight": sample_weight}
    checks.outside("fit_each", INSTEAD, **given, kl_weight=objective.kl_weight)
    _check_members(keys, models, x, y, sample_weight)
    each_weight = [None] * len(models) if sample_weight is None else sample_weight
    data = [training_data(model, *of_one) for model, *of_one in zip(models, x, y, each_weight, strict=True)]
    method.check(models[0])
    _check_one_shape([one.x for one in data])
    recipe, steps = plan(
        keys[0],
        models[0],
        data[0][0],
        objective,
        steps=steps,
        epochs=epochs,
        optimizer=optimizer,
        batch_size=batch_size,
        members=len(models),
        own_data=True,
    )
    x, y, weights = stacked(data)
    inputs = TrainInputs(keys, stacked(models), x, y, weight_of(objective, models[0]), weights)
    trained, history = train(inputs, recipe, steps, progress)
    learned = [
        method.finished(
            jax.random.fold_in(key, FINISH_KEY), member_of(trained, k), one.x, one.y, False, one.sample_weight
        )
        for k, (key, one) in enumerate(zip(keys, data, strict=True))
    ]
    for k, one in enumerate(learned):
        for problem in one.problems:
            warnings.warn(f"Member {k}: {problem}", stacklevel=2)
    return [one.model for one in learned], [history.member(k) for k in range(len(models))]


def _check_members(keys: Any, models: list[BNN], x: Any, y: Any, sample_weight: Any) -> None:
    """Check that keys, models and data are of one number of members, and the models of one structure.

    Raises:
        KeyTypeError, InputError, ShapeError: if they are not.
    """
    if not models:
        fail(InputError, "at least one model", "none", "Pass one model for each member.")
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if not typed or keys.shape != (len(models),):
        got = f"an array of shape {keys.shape} and dtype {keys.dtype}" if hasattr(keys, "dtype") else repr(keys)[:60]
        do = f"Make them with jax.random.split(key, {len(models)})."
        fail(KeyTypeError, f"{len(models)} typed JAX keys, one for each model", got, do)
    for name, data in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if data is None and name == "sample_weight":
            continue
        is_array = hasattr(data, "shape")
        members = (*data.shape, None)[0] if is_array else len(data) if isinstance(data, Sequence) else None
        if members != len(models):
            got = f"a {type(data).__name__}" if members is None else f"{members}"
            do = f"Pass {name} of shape (members, rows{', ...' if name != 'sample_weight' else ''})."
            fail(ShapeError, f"{name} for each of {len(models)} members", got, do)
    structures: list[Any] = [jax.tree.structure(model) for model in models]
    for k, structure in enumerate(structures):
        if structure != structures[0]:
            got, do = f"another at member {k}", "Make all models of one network object, one prior and one likelihood."
            fail(ShapeError, "members of one network and one structure", got, do)


def _check_one_shape(each: list[Tree]) -> None:
    """Check that the x of all members are of one shape.

    Raises:
        ShapeError: if they are not.
    """
    kinds = [(jax.tree.structure(x), list(map(jnp.shape, jax.tree.leaves(x)))) for x in each]
    other = next((k for k, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        one, another = (jax.tree.map(jnp.shape, each[k]) for k in (0, other))
        got, do = f"shapes {one} and {another}", "Give every member the same number of rows and columns."
        fail(ShapeError, "x of one shape for all members", got, do)
