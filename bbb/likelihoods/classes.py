"""Likelihoods of classes."""

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks
from bbb.core.tree import pytree_dataclass
from bbb.errors import InputError, ShapeError, fail
from bbb.likelihoods.elementwise import ElementwiseLikelihood, FixedLikelihood, first_invalid, root_of_diagonal


@pytree_dataclass(data=(), saved=True)
class Bernoulli(FixedLikelihood, ElementwiseLikelihood):
    """y is 0 or 1: P(y = 1) = 1/(1 + e^−f), with f the output; several outputs are independent given the weights.

    y has the shape of the outputs, and any dtype, bool included. `predict(...).y` has the probabilities of 0 and of 1
    on a last axis that y does not have.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> bbb.likelihoods.Bernoulli().probabilities(jnp.zeros((1, 1))).tolist()
        [[[0.5, 0.5]]]
    """

    discrete = True

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y in the dtype of the outputs.

        Raises:
            ShapeError: if y does not have the shape of the outputs.
            InputError: if y holds a number other than 0 and 1.
        """
        checks.target(y, outputs)
        if (bad := first_invalid(y, lambda array: (array != 0) & (array != 1))) is not None:
            fail(InputError, "0 and 1 alone in y", bad, "Pass y == positive_class, or take Categorical.")
        return y.astype(outputs.dtype)

    def check_training(self, y: jax.Array) -> None:
        """Raise if the labels of an output are all the same, so that nothing can be learned from them.

        Raises:
            InputError: if y holds only one class for an output.
        """
        _check_classes(y)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log P(Y = y) in nats, of each element."""
        nats = -jax.nn.softplus((1 - 2 * y) * outputs)
        return jnp.where((y == 0) | (y == 1), nats, -jnp.inf)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs] = P(Y = 1)."""
        return jax.nn.sigmoid(outputs)

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = P(Y = 1)·P(Y = 0)."""
        return jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs)

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probabilities of 0 and of 1 on a new last axis: (..., 2)."""
        return jnp.stack([jax.nn.sigmoid(-outputs), jax.nn.sigmoid(outputs)], axis=-1)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal √(p·(1 − p)): the square root of the information about each output, minus the Hessian."""
        return root_of_diagonal(jnp.exp((jax.nn.log_sigmoid(outputs) + jax.nn.log_sigmoid(-outputs)) / 2))

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        return jnp.where(y < 0, 0, jnp.where(y < 1, jax.nn.sigmoid(-outputs), 1))

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element: 0 or 1, in the dtype of the outputs."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)


@pytree_dataclass(data=(), saved=True)
class Categorical(FixedLikelihood):
    """y is one of several classes: y ~ Categorical(softmax(outputs)).

    y holds whole numbers from 0, shape (rows,); outputs are logits, (rows, classes). A class has neither a mean nor
    quantiles, but `probabilities`.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([[0.25, 0.75]]))
        >>> bbb.likelihoods.Categorical().probabilities(logits).round(2).tolist()
        [[0.25, 0.75]]
    """

    def as_target(self, y: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
        """Return y unchanged, one class for each row of logits.

        Raises:
            ShapeError: if the outputs are not (rows, classes) of two classes or more, or y is not (rows,).
            InputError: if y does not hold whole numbers from 0 to classes − 1, of an integer dtype.
        """
        if len(outputs.shape) != 2 or outputs.shape[1] < 2:
            fail(
                ShapeError,
                "outputs of shape (rows, classes), a logit for each of two classes or more",
                f"shape {outputs.shape}",
                "Give the network one output for each class.",
            )
        rows, classes = outputs.shape
        if y.shape != (rows,):
            hint = "y.argmax(axis=1)" if y.shape == outputs.shape else "y of whole numbers"
            hint = "y[:, 0]" if y.shape == (rows, 1) else hint
            fail(ShapeError, f"y of shape ({rows},), the class of each row", f"{y.shape}", f"Pass {hint}.")
        if not jnp.issubdtype(y.dtype, jnp.integer):
            fail(InputError, "y of an integer dtype", f"{y.dtype}", "Pass y.astype(int).")
        classes_of_rows = np.zeros(0) if isinstance(y, jax.core.Tracer) else np.asarray(y)
        wrong = classes_of_rows[(classes_of_rows < 0) | (classes_of_rows >= classes)]
        if len(wrong):
            do = "Number the classes from 0, and give the network one output for each."
            fail(InputError, f"classes from 0 to {classes - 1} in y", f"{wrong[0]}", do)
        return y

    def check_training(self, y: jax.Array) -> None:
        """Raise if the labels are all the same, so that nothing can be learned from them.

        Raises:
            InputError: if y holds only one class.
        """
        _check_classes(y)

    def log_prob(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return log softmax(outputs)[y] in nats, shape (rows,), for y of shape (rows,) and outputs (rows, classes).

        Raises:
            ShapeError, InputError: as `as_target`.
        """
        y = self.as_target(jnp.asarray(y), jax.ShapeDtypeStruct(outputs.shape, outputs.dtype))
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)[:, 0]

    def function(self, outputs: jax.Array) -> jax.Array:
        """Return the logits unchanged."""
        return outputs

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Return the probability of each class, softmax(outputs), over the last axis: (..., classes)."""
        return jax.nn.softmax(outputs)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return A = diag(√p) − p·√pᵀ, (rows, classes, classes): A·Aᵀ = diag(p) − p·pᵀ is minus the Hessian of log P.

        Source: Martens 2020, "New insights and perspectives on the natural gradient method", JMLR 21(146): for outputs
        that are natural parameters, the Hessian is the Fisher information.
        """
        root = jnp.exp(jax.nn.log_softmax(outputs) / 2)
        diagonal = root_of_diagonal(root)
        return diagonal - jnp.square(root)[:, :, None] * root[:, None, :]

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one class for each row, a whole number: shape (...) for outputs (..., classes)."""
        return jax.random.categorical(key, outputs)


def _check_classes(y: jax.Array) -> None:
    """Raise if the labels of an output are all the same; traced ones are not checked."""
    if isinstance(y, jax.core.Tracer):
        return
    columns = np.asarray(y).reshape(len(y), -1).T
    for i, column in enumerate(columns):
        if (column == column[0]).all():
            where = f" of output {i}" if len(columns) > 1 else ""
            got = f"{column[0]:g} in every one of {len(column)} rows"
            do = "Nothing can be learned from one class: pass rows of others too."
            fail(InputError, f"two classes or more in y{where}", got, do)
