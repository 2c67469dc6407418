"""Optional abilities of priors and likelihoods: each is a `Protocol`, and an object has it if it has its members.

    implements(likelihood, SupportsSampling)         whether it has all of them
    missing_members(likelihood, SupportsSampling)    which ones it lacks

Members are looked up on the object, unlike by `isinstance` with a `runtime_checkable` protocol, which since Python 3.12
does not see those of `__getattr__`: a wrapper that passes on what it holds has the abilities of that.
"""

from typing import Generic, Protocol, TypeGuard, TypeVar

Ability = TypeVar("Ability")


def implements(part: object, ability: type[Ability]) -> TypeGuard[Ability]:
    """Return whether an object, which is not a class, has every member of a protocol."""
    return not isinstance(part, type) and not missing_members(part, ability)


def missing_members(part: object, *abilities: type) -> list[str]:
    """Return the names of the members of protocols that an object lacks, in the order in which they are defined."""
    return [name for ability in abilities for name in _members(ability) if not hasattr(part, name)]


def _members(ability: type) -> list[str]:
    """Return the names of a protocol's public methods and properties, those of its bases first."""
    protocols = [base for base in reversed(ability.__mro__) if base not in (object, Generic, Protocol)]
    return [name for base in protocols for name in vars(base) if not name.startswith("_")]
