"""The rule of each primitive."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from bbb.moments.elementwise import ELEMENTWISE_RULES
from bbb.moments.linear import LINEAR_RULES
from bbb.moments.piecewise import refuse
from bbb.moments.values import Elementwise
from bbb.tracing.interpreter import Lazy, called

RULES = LINEAR_RULES | ELEMENTWISE_RULES
"""The rule of each primitive, by its name."""


class MomentRules:
    """Rules for equations with random inputs: see `_trace.Rules`."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of a primitive; a call has none, so that it is entered."""
        if called(equation) is not None:
            return None
        rule = RULES.get(equation.primitive.name)
        return refuse(equation) if rule is None else rule(equation, inputs)

    def share(self, value: Lazy) -> Lazy:
        """Return the value: moments may be read many times."""
        return value

    def settle(self, value: Lazy, equation: JaxprEqn | None) -> Any:
        """Raise UnknownPrimitiveError, because a random value has no array."""
        del value
        assert equation is not None, "outputs stay lazy"
        refuse(equation)


class AffineRules(MomentRules):
    """The same rules, for values that must stay affine in the weights."""

    def apply(self, equation: JaxprEqn, inputs: list[Any]) -> Sequence[Any] | None:
        """Apply the rule of a primitive, and raise UnknownPrimitiveError if its outputs are not affine."""
        outputs = super().apply(equation, inputs)
        if not all(map(_is_affine, outputs or ())):
            refuse(equation)
        return outputs


def _is_affine(value: Any) -> bool:
    if isinstance(value, Elementwise):
        return value.base.affine and value.pieces.is_affine
    return value.affine
