"""The predictive of rows that come in batches, such as those of a set larger than the memory."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from bbb import checks
from bbb.data import rows_for
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model
from bbb.predictive.api import checked_options, predict
from bbb.predictive.plan import placed_over
from bbb.predictive.summary import Predictive


def predict_batches(key: jax.Array, model: BNN, batches: Iterable[Any], **options: Any) -> Iterator[Predictive]:
    """Yield the summary of the predictive distribution of each batch of rows, as `predict` returns it.

    One batch is in memory at a time. A row has the same answer in any batch, since its draws are those of the key::

        for predictive in bbb.predictive.predict_batches(key, model, (file[i : i + 4096] for i in range(0, n, 4096))):
            out.write(predictive.y.mean)

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        batches: an iterable of x, (rows, ...) or trees of them, of any number of rows each.
        options: those of `predict`.

    Raises:
        KeyTypeError, InputError: for arguments that do not fit, or an option that `predict` does not know, at once.
        InputError, ShapeError, NonFiniteInputError, NonFiniteOutputError: at a batch that does not fit, which it names,
            or where `predict` raises; what was yielded before stands.

    Example:
        >>> import bbb, jax
        >>> task = bbb.tasks.regression(rows=20)
        >>> layer = bbb.nn.linear(1, 1)
        >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.5)}
        >>> model = bbb.bayesianize(layer.apply, layer.init(jax.random.key(0)), **beliefs)
        >>> parts = bbb.predictive.predict_batches(
        ...     jax.random.key(1), model, [task.x[:10], task.x[10:]], draws=100
        ... )
        >>> [part.y.mean.shape for part in parts]
        [(10, 1), (10, 1)]
    """
    checks.outside("predict_batches", key=key, model=model)
    checks.key(key)
    check_model(model)
    if isinstance(batches, str | bytes | dict) or not isinstance(batches, Iterable):
        do = "Pass for example [x[:1000], x[1000:]], or a generator."
        fail(InputError, "batches to be an iterable of x", f"a {type(batches).__name__}", do)
    _check_options(model, options)

    def of_each() -> Iterator[Predictive]:
        for number, x in enumerate(batches):
            yield predict(key, model, rows_for(model, f"x of batch {number:,}", x), **options)

    return of_each()


def _check_options(model: BNN, options: dict[str, Any]) -> None:
    """Raise an error for options that `predict` would refuse at the first batch.

    Raises:
        InputError: naming one that it does not know, or that does not fit.
    """
    known = {
        name: each.default
        for name, each in inspect.signature(predict).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    for name in options:
        if name not in known:
            fail(InputError, "options of predict", repr(name), f"Pass some of {', '.join(known)}.")
    given = known | options
    checks.memory(given.pop("memory"))
    for head in [model] if model.joint is None else [model.head(path) for path in model.joint.paths]:
        checked_options(head, **given)
    placed_over(given["mesh"], given["partition"])
