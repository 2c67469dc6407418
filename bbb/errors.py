"""The errors of the library: each says what was expected, what came, and what to do."""

from typing import Any, NoReturn

__all__ = [
    "BBBError",
    "ForkError",
    "HostError",
    "InputError",
    "KeyTypeError",
    "ModelFileError",
    "NonFiniteInputError",
    "NonFiniteLossError",
    "NonFiniteOutputError",
    "QuantileError",
    "ShapeError",
    "StreamError",
    "TableError",
    "UnknownPrimitiveError",
    "WriteError",
]


class BBBError(Exception):
    """The base class of every error that this library raises on purpose."""


class InputError(BBBError, ValueError):
    """An argument has an invalid value."""


class ShapeError(InputError):
    """An array, or a tree of arrays, has a shape or a structure that does not match."""


class UnknownPrimitiveError(InputError):
    """A network applies an operation to random values for which there is no closed-form rule."""


class KeyTypeError(BBBError, TypeError):
    """A key is not a single typed JAX key."""


class NonFiniteInputError(InputError):
    """The data contains NaN or infinity."""


class NonFiniteLossError(BBBError, ArithmeticError):
    """Training met, or produced, a number that is not finite.

    Attributes:
        step: index of the first such step, counted from 0.
        model: the last model whose loss was finite, or the initial model if no loss was.
        history: the history of the steps before that one.
    """

    def __init__(self, message: str, *, step: int, model: Any, history: object) -> None:
        super().__init__(message)
        self.step = step
        self.model = model
        self.history = history


class NonFiniteOutputError(BBBError, ArithmeticError):
    """The outputs of a network, or a statistic of its draws, are NaN or infinite at some row."""


class QuantileError(InputError):
    """A quantile was requested that was not computed, and whose draws were not kept."""


class HostError(BBBError, RuntimeError):
    """Another of several cooperating processes was lost or cannot continue."""


class ForkError(BBBError, RuntimeError):
    """The process was forked after JAX had started, so that any computation in it would hang."""


class ModelFileError(BBBError, ValueError):
    """A model file is missing or damaged, or describes a different network."""


class StreamError(InputError):
    """A stream of batches ended early, failed, or gave a batch that does not fit, after training had begun.

    Attributes:
        model: the model as trained so far: the best one, if validation has scored any.
        history: the history of the completed steps; None before the first.
    """

    model: Any = None
    history: Any = None


class TableError(InputError):
    """A CSV file cannot be read as the requested table of numbers."""


class WriteError(BBBError, OSError):
    """A file or folder cannot be written.

    Attributes:
        model: if `fit` could not write a checkpoint, the model as trained so far: the best one, if validation has
            scored any. After training on a mesh its arrays are NumPy arrays. None for any other file.
        history: if `fit` could not write a checkpoint, the history of the completed steps. None for any other file.
    """

    model: Any = None
    history: Any = None


def fail(error: type[BBBError], expected: str, got: str, do: str) -> NoReturn:
    """Raise `error` with a message in the form that all messages of this library share."""
    raise error(f"Expected {expected}, got {got}. {do}")


def short_repr(value: object) -> str:
    """Return the repr of a value, cut after 60 characters."""
    try:
        text = repr(value)
    except Exception:  # such as that of a deleted array
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."


def typed_repr(value: object) -> str:
    """Return the type of a value and its short repr; for a class, its name."""
    return (
        f"the class {value.__name__} itself"
        if isinstance(value, type)
        else f"{type(value).__name__} {short_repr(value)}"
    )
