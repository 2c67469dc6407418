"""Learning to predict one column of a table from the others."""

import dataclasses
import math
import os
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from bbb import checks, objectives
from bbb.errors import InputError, fail
from bbb.evaluate.diagnosis import Finding, of_training
from bbb.inference import FINISH_KEY, METHODS, method_of
from bbb.model import BNN, bayesianize
from bbb.networks import nn
from bbb.objectives.objective import exact_elbo_cost, has_exact_elbo
from bbb.tables import groups
from bbb.tables.encoding import Encoding
from bbb.tables.frames import as_table
from bbb.tables.model import TabularModel, class_names
from bbb.tables.parts import ranges
from bbb.tables.parts.record import TrainingRecord
from bbb.tables.recipe import AUTO, LIKELIHOODS, PRIORS, Recipe, hidden_layers
from bbb.tables.table import Table
from bbb.train.api import fit
from bbb.train.data.rows import count_held, hold_out, training_data
from bbb.train.history import History
from bbb.train.options import Checkpointing, Objective, Placement, Restarts

GROUP_KEY = 2**32 - 12
"""The key of the choice of the groups that are held out."""

CALIBRATE_KEY = 2**32 - 22
"""The key of the choice of the rows that are held out to calibrate."""


def fit_table(
    table: Any,
    target: str,
    *,
    recipe: Recipe | None = None,
    group: str | None = None,
    seed: int = 0,
    checkpoints: Checkpointing | str | os.PathLike[str] | None = None,
    placement: Placement | Mesh | None = None,
    progress: bool | None = None,
) -> tuple[TabularModel, History]:
    """Learn to predict one column of a table, or of a frame of pandas, polars or pyarrow, from all other columns.

    Columns of words are encoded by one-hot, and of dates as days; `recipe.missing` says what to do about missing
    values. The model keeps the encoding: see `bbb.tables.encoding`. For `checkpoints`, `placement` and `progress`, see
    `fit`.

    The rows that `recipe.validation` holds out are whole groups if `group` names a column, which is no input then: see
    `bbb.tables.groups`. They choose the step at which training stops, and count where columns are encoded and
    standardised; they are no data of the posterior, also by "laplace" or "hmc".

    The rows that `recipe.calibrate` holds out, likewise whole groups if there are some, count nowhere: only the
    finished model is compared with them (`TabularModel.calibrated`). With groups, the guarantee is approximate, as rows
    of one group are not independent.

    Raises:
        TableError: if the target is missing or is the only column, a column is constant or cannot be encoded, or the
            target does not fit the recipe's likelihood; or if the groups are missing, or are one alone.
        InputError: if a likelihood, a prior, an activation or a posterior is unknown, the prior has no curvature that a
            Laplace posterior needs, there are no hidden units, the mesh has other
            axes, or its size divides neither `recipe.rows_a_step` nor the restarts.
        NonFiniteLossError: if training diverges.
        InputError, ModelFileError, WriteError: for checkpoints, as `fit` raises them.

    Example:
        >>> import pandas
        >>> import bbb.tables
        >>> frame = pandas.DataFrame({"size": [50.0, 80.0, 100.0], "price": [1.5, 2.5, 3.0]})
        >>> recipe = bbb.tables.Recipe(hidden=1, epochs=2, posterior="mean_field", likelihood="gaussian")
        >>> model, history = bbb.tables.fit_table(frame, "price", recipe=recipe, progress=False)
        >>> model.features, model.predict(frame, draws=100).y.mean.shape
        (('size',), (3, 1))
    """
    recipe = recipe or Recipe()
    checks.word("likelihood", recipe.likelihood, (AUTO, *LIKELIHOODS))
    checks.word("prior", recipe.prior, tuple(PRIORS))
    checks.word("activation", recipe.activation, (AUTO, *nn.ACTIVATIONS))
    checks.word("posterior", recipe.posterior, (AUTO, *METHODS))
    for width in recipe.widths or (0,):
        checks.positive_integer("hidden", width)
    table = as_table(table)
    if group is not None and not (recipe.validation or recipe.calibrate):
        do = "Pass for example validation=0.1."
        fail(InputError, "recipe.validation or recipe.calibrate above 0 with a group", "0", do)
    learn = partial(_learned, target=target, recipe=recipe, group=group, seed=seed)
    how: dict[str, Any] = {"checkpoints": checkpoints, "placement": placement, "progress": progress}
    if not recipe.calibrate:
        return learn(table, **how)
    table.observed(target)
    Encoding.learned(table, _features(table, target, group), recipe.missing)  # which raises before training
    rest, held = _held_to_calibrate(table, group, recipe.calibrate, seed)
    model, history = learn(rest, **how)
    return model.calibrated(held), history


def _learned(
    table: Table,
    target: str,
    *,
    recipe: Recipe,
    group: str | None,
    seed: int,
    checkpoints: Any,
    placement: Any,
    progress: bool | None,
) -> tuple[TabularModel, History]:
    """Return the model of all rows of a table, and its history."""
    observed = table.observed(target)
    features = _features(table, target, group)
    recipe = recipe.chosen(observed)
    method = method_of(recipe.posterior)
    y, classes = _to_learn(table, target, observed, recipe.likelihood)
    for name in features:
        ranges.check_input(table, name)
    encoding = Encoding.learned(table, features, recipe.missing)
    x = encoding.encode(table)
    head = LIKELIHOODS[recipe.likelihood](y, recipe.noise_std)
    init_key, fit_key = jax.random.split(jax.random.key(seed))
    hidden = hidden_layers(x.shape[1], recipe)
    network = nn.sequential(
        _standardizing(x, encoding), *hidden, nn.linear(recipe.widths[-1], head.outputs), *head.scale
    )
    params = network.init(init_key)
    model = bayesianize(network.apply, params, prior=PRIORS[recipe.prior](params), likelihood=head.likelihood)
    method.check(model)
    steps = recipe.epochs * math.ceil(len(x) / min(recipe.batch_size, len(x)))
    rows, validation = _divided(fit_key, table, (x, y), group, recipe.validation)
    model, history = fit(
        fit_key,
        model,
        *rows,
        epochs=recipe.epochs,
        optimizer=optax.adam(optax.cosine_decay_schedule(recipe.learning_rate, steps)),
        batch_size=recipe.batch_size,
        objective=_objective(model, x, recipe, steps),
        validation=validation,
        checkpoints=checkpoints,
        restarts=Restarts(recipe.restarts, network.init),
        placement=placement,
        progress=progress,
    )
    if validation and group is None:  # those that `fit` has held out by the same key
        first = model.member(0)
        rows = hold_out(fit_key, first, training_data(first, x, y), validation)[0][:2]
    learned = method.finished(jax.random.fold_in(fit_key, FINISH_KEY), model, *rows, True)
    found = (*of_training(history), *map(_of_chains, learned.problems))
    kept = None if encoding.is_plain else encoding
    record = TrainingRecord.of(history, seed, dataclasses.asdict(recipe) | {"hidden": recipe.widths})
    of: dict[str, Any] = {
        "structure": learned.structure,
        "encoding": kept,
        "learned_from": len(rows[0]),
        "record": record,
    }
    return TabularModel(learned.model, features, target, classes, found, **of), history


def _features(table: Table, target: str, group: str | None) -> tuple[str, ...]:
    """Return the columns to predict from.

    Raises:
        TableError: if there are none.
    """
    found = tuple(column for column in table.names if column not in (target, group))
    if not found:
        table.fail(f"at least one column besides '{target}'", "no other", "Add the columns to predict it from.")
    return found


def _divided(key: jax.Array, table: Table, rows: tuple[Any, Any], group: str | None, share: float) -> tuple[Any, Any]:
    """Return the rows to train on, and what `fit` takes as validation: a share, or the rows of whole groups."""
    if group is None:
        return rows, share or None
    if not share:
        return rows, None
    held = groups.held_out(jax.random.fold_in(key, np.uint32(GROUP_KEY)), table, group, share)
    return tuple(part[~held] for part in rows), tuple(part[held] for part in rows)


def _held_to_calibrate(table: Table, group: str | None, share: float, seed: int) -> tuple[Table, Table]:
    """Return the rows to learn from, and those to calibrate by: some at random, or those of whole groups.

    Raises:
        InputError: for what is no share, or leaves no row to learn from.
    """
    key = jax.random.fold_in(jax.random.key(seed), np.uint32(CALIBRATE_KEY))
    count = count_held(checks.probability("recipe.calibrate", share, 0.2), table.rows)
    if group is not None:
        held = groups.held_out(key, table, group, share)
    elif count < table.rows:
        held = np.isin(np.arange(table.rows), np.asarray(jax.random.permutation(key, table.rows))[:count])
    else:
        do = "Pass a smaller share, or more rows."
        fail(InputError, "recipe.calibrate to leave a row to learn from", f"{count} of {table.rows} to hold out", do)
    return table.take(~held), table.take(held)


def _of_chains(problem: str) -> Finding:
    """Return a finding for what is wrong with Markov chains: a sentence of figures, and others of arguments."""
    advice = "Train for more epochs, or with restarts, whose chains start apart; or sample longer by bbb.mcmc.hmc."
    return Finding("chains that are not done", problem.partition(". ")[0], advice)


def _to_learn(table: Table, target: str, observed: np.ndarray, kind: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the target in the form of its likelihood, and the names of its classes or None."""
    if kind == "categorical":
        names = class_names(observed)
        classes = tuple(sorted(set(names), key=_in_order))
        if len(classes) < 2:
            do = "Nothing can be learned from one class: add rows of others."
            table.fail(f"two classes or more in column '{target}'", f"'{classes[0]}' alone", do)
        return np.array([classes.index(name) for name in names], np.int32), classes
    if observed.dtype.kind == "U":
        do = "Leave --likelihood out, or pass categorical."
        table.fail(f"numbers in column '{target}' for a {kind} likelihood", f"'{observed[0]}'", do)
    is_count = kind in ("poisson", "negative-binomial")
    if not is_count:
        ranges.check_target(table, target)
    y = table.varying([target])
    if is_count and (np.any(y < 0) or np.any(y != np.round(y))):
        wrong = y[(y < 0) | (y != np.round(y))][0]
        do = "Pass --likelihood gaussian for measurements."
        table.fail(f"counts, whole numbers from 0, in column '{target}'", f"{wrong:g}", do)
    if is_count:
        ranges.check_counts(table, target)
    return y, None


def _in_order(name: str) -> tuple[float, str]:
    """Return a key that sorts names that are numbers by value, and others alphabetically."""
    try:
        return float(name), name
    except ValueError:
        return math.inf, name


def _objective(model: BNN, x: Any, recipe: Recipe, steps: int) -> Objective:
    """Return the bound with a warm-up of the KL divergence: exact where it can be, else on draws."""
    weight = objectives.warm_up(max(1, int(recipe.kl_warm_up * steps)))
    if recipe.activation in nn.CLOSED_FORM and has_exact_elbo(model, x):
        return Objective(exact_elbo_cost, kl_weight=weight)
    return Objective(kl_weight=weight, draws=recipe.draws_per_step)


def _standardizing(x: np.ndarray, encoding: Encoding) -> nn.Layer:
    return nn.affine(-np.mean(x, 0), 1 / encoding.scales(np.var(x, 0)))
