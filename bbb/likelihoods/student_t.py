"""Student-t noise, whose tails are heavier than a Gaussian's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bbb import checks, display
from bbb.core.noise import at_least_float32
from bbb.core.special import log_student_t, student_t_cdf, student_t_tail
from bbb.core.tree import Tree, pytree_dataclass
from bbb.errors import InputError, fail
from bbb.likelihoods.elementwise import ElementwiseLikelihood, as_row_parameter, natural_log, root_of_diagonal


@pytree_dataclass(data=("log_scale", "log_df_above_2"), static=("learn", "learn_df"), saved=True)
class StudentT(ElementwiseLikelihood):
    """y = outputs + scale·T, with T of Student's t distribution: noise with heavier tails than a Gaussian's.

    Args:
        scale: a number, or an array that broadcasts against one row of outputs, in y's units. It is less than the
            standard deviation of the noise, which is scale·√(df/(df − 2)).
        df: degrees of freedom, one number above 2, where y has a variance; the larger, the closer to a Gaussian.
        learn: whether `fit` learns the scale, starting from this value.
        learn_df: whether it learns the degrees of freedom too; they stay above 2.

    Attributes:
        log_scale, log_df_above_2: the natural logarithms of scale and of df − 2, the parameters that `fit` trains.

    Raises:
        InputError: if scale is not positive and finite, df not one finite number above 2, or only df is learned.

    Source: Lange et al. 1989, Robust statistical modeling using the t distribution, J. Am. Stat. Assoc. 84, 881.

    Example:
        >>> import bbb
        >>> import jax.numpy as jnp
        >>> noise = bbb.likelihoods.StudentT(scale=0.5, df=4.0, learn=True)
        >>> noise
        StudentT(scale=0.5, df=4.0, learn=True, learn_df=False)
        >>> noise.variance(jnp.zeros((1, 1))).round(2).tolist()
        [[0.5]]
    """

    log_scale: Tree
    log_df_above_2: Tree
    learn: bool
    learn_df: bool

    def __init__(self, scale: Tree = 1.0, df: Tree = 4.0, learn: bool = False, learn_df: bool = False) -> None:
        checks.positive("scale", scale)
        _check_df(df)
        if learn_df and not learn:
            got = "learn=False, learn_df=True"
            fail(InputError, "a scale that is learned where df is", got, "Pass learn=True.")
        object.__setattr__(self, "log_scale", natural_log(scale))
        object.__setattr__(self, "log_df_above_2", natural_log(df - 2.0))
        object.__setattr__(self, "learn", checks.boolean("learn", learn))
        object.__setattr__(self, "learn_df", checks.boolean("learn_df", learn_df))

    def __repr__(self) -> str:
        scale, df = display.from_logarithm(self.log_scale), display.from_logarithm(self.log_df_above_2, offset=2.0)
        return display.call(self, scale=scale, df=df, learn=self.learn, learn_df=self.learn_df)

    @property
    def scale(self) -> jax.Array:
        """The factor of T, in y's units."""
        return jnp.exp(self.log_scale)

    @property
    def df(self) -> jax.Array:
        """The degrees of freedom, above 2."""
        return 2 + jnp.exp(self.log_df_above_2)

    @property
    def std(self) -> jax.Array:
        """The noise's standard deviation, scale·√(df/(df − 2)), in y's units."""
        excess = jnp.asarray(self.log_df_above_2)
        log_inflation = 0.5 * jnp.log1p(2 * jnp.exp(-excess))
        return jnp.exp(self.log_scale + log_inflation)

    def log_density(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return the log density of y in nats, of each element."""
        return log_student_t(self._z(y, outputs), self._df(outputs)) - self._log_scale(outputs)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y | outputs], with the shape of the outputs."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Return Var[y | outputs] = scale²·df/(df − 2), with the shape of the outputs."""
        inflation = 1 + 2 * jnp.exp(-jnp.asarray(self.log_df_above_2, outputs.dtype))
        return jnp.broadcast_to(jnp.exp(2 * self._log_scale(outputs)) * inflation, outputs.shape)

    def cdf(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        """Return P(Y ≤ y | outputs)."""
        return student_t_cdf(self._z(y, outputs), self._df(outputs))

    def tabulated_cdf(self, outputs: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return `cdf` for very many elements: interpolated in a table, accurate to 1e-12 or to rounding."""
        tail = student_t_tail(self._df(outputs).reshape(()))

        def cdf(y: jax.Array, outputs: jax.Array) -> jax.Array:
            z = self._z(y, outputs)
            beyond = tail(jnp.arcsinh(jnp.abs(z)))
            return jnp.where(z < 0, beyond, 1 - beyond)

        return cdf

    def sample(self, key: jax.Array, outputs: jax.Array) -> jax.Array:
        """Draw one y for each element."""
        wide = at_least_float32(outputs.dtype)
        noise = jax.random.t(key, self._df(outputs).astype(wide), outputs.shape, wide)
        return outputs + jnp.exp(self._log_scale(outputs)) * noise.astype(outputs.dtype)

    def fisher_root(self, outputs: jax.Array) -> jax.Array:
        """Return the diagonal √((df + 1)/(df + 3))/scale: the square root of the information of y about each output.

        The Hessian of log p itself, of which it is minus the expectation, changes its sign at
        `|y − output| = scale·√df`.

        Source: Lange et al. 1989, J. Am. Stat. Assoc. 84, 881: the expected information about the location.
        """
        df = self._df(outputs)
        return root_of_diagonal(
            jnp.broadcast_to(jnp.sqrt((df + 1) / (df + 3)) * jnp.exp(-self._log_scale(outputs)), outputs.shape)
        )

    def _log_scale(self, outputs: jax.Array) -> jax.Array:
        return as_row_parameter(self.log_scale, outputs, "scale")

    def _df(self, outputs: jax.Array) -> jax.Array:
        excess = self.log_df_above_2 if self.learn_df else jax.lax.stop_gradient(self.log_df_above_2)
        return 2 + jnp.exp(as_row_parameter(excess, outputs, "df"))

    def _z(self, y: jax.Array, outputs: jax.Array) -> jax.Array:
        return (y - outputs) * jnp.exp(-self._log_scale(outputs))


def _check_df(df: Tree) -> None:
    """Raise if y has no variance with these degrees of freedom; traced ones are not checked."""
    if isinstance(df, jax.core.Tracer):
        return
    checks.finite("df", df)
    if np.ndim(df) or not np.asarray(df) > 2:
        do = "Pass for example df=4: at 2 and below y has no variance."
        fail(InputError, "df to be one number above 2", f"{df}", do)
