"""The predictive of rows that come in batches, such as those of a set larger than the memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from bbb import checks
from bbb.data import rows_for
from bbb.errors import InputError, fail
from bbb.model import BNN, check_model
from bbb.predictive.api import predict
from bbb.predictive.summary import Predictive


def predict_batches(key: jax.Array, model: BNN, batches: Iterable[Any], **options: Any) -> Iterator[Predictive]:
    """Yield the summary of the predictive distribution of each batch of rows, as `predict` returns it.

    One batch is in memory at a time. A row has the same answer in any batch, since its draws are those of the key:

        for predictive in bbb.predictive.predict_batches(key, model, (file[i : i + 4096] for i in range(0, n, 4096))):
            out.write(predictive.y.mean)

    Args:
        key: one typed JAX key.
        model: the Bayesian network.
        batches: an iterable of x, (rows, ...) or trees of them, of any number of rows each.
        options: those of `predict`.

    Raises:
        KeyTypeError, InputError: for arguments that do not fit, at once.
        InputError, ShapeError, NonFiniteInputError, NonFiniteOutputError: at a batch that does not fit, which it names,
            or where `predict` raises; what was yielded before stands.
    """
    checks.outside("predict_batches", key=key, model=model)
    checks.key(key)
    check_model(model)
    if isinstance(batches, str | bytes | dict) or not isinstance(batches, Iterable):
        do = "Pass for example [x[:1000], x[1000:]], or a generator."
        fail(InputError, "batches to be an iterable of x", f"a {type(batches).__name__}", do)

    def of_each() -> Iterator[Predictive]:
        for number, x in enumerate(batches):
            yield predict(key, model, rows_for(model, f"x of batch {number:,}", x), **options)

    return of_each()
