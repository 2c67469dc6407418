"""Functions that do the same, taken for one: JAX compares functions by identity, and compiles for each that it meets.

canonical(value, what)    the first value given that is the same program; the value itself where that is not decided

It is decided for functions whose code is the same and which know the same: in closures, defaults, and the globals that
they read, only what cannot change, which is numbers, words, tuples of these, other such functions, and what jax, numpy,
optax and the adapters' libraries hold, such as the frozen dataclasses of `bbb`. `optax.adam(1e-2)` made anew is so the
one made before, and a network's function that was defined again is the one of the first time unless something it reads
changed. A function that holds an array, a list, a dictionary, or a module or class of one's own or an object of it, is
compared by identity, as JAX does, and so is one that looks its globals up by name. Of a library's own function, such as
a schedule, lists and the like are read too.
"""

import dataclasses
import dis
import enum
import functools
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

MOST = 512
"""How many values are remembered."""

OFTEN = 3
"""With how many objects of the same code, that cannot be told to be the same program, a line is logged."""

FEW = 1_000
"""Most numbers of an array that a library's function holds, for it to be compared by them."""

STANDARD = ("builtins", "collections", "functools", "itertools", "math", "operator", "typing")

LIBRARIES = frozenset(
    ("bbb", "jax", "jaxlib", "numpy", "scipy", "optax", "chex", "flax", "equinox", "haiku", *STANDARD)
)
"""Whose functions and modules stay as they are while a process lives."""

BY_NAME = frozenset(("globals", "locals", "vars", "eval", "exec", "__import__"))
"""Functions that read what cannot be seen in the code that calls them."""

_known: OrderedDict[Hashable, Any] = OrderedDict()
_undecided: OrderedDict[CodeType, tuple[weakref.ref[Any], int]] = OrderedDict()
_lock = threading.Lock()
_log = logging.getLogger("bbb")


class _UndecidedError(Exception):
    """Whether two such values are the same program cannot be told."""


def canonical(value: T, what: str) -> T:
    """Return the first value given that is the same program as this one; itself if that cannot be decided.

    Args:
        value: a function, or a tuple or frozen dataclass of functions, such as one of optax's transformations.
        what: it is, for the line that is logged when the third object of the same code cannot be decided.
    """
    try:
        key = _Reader().key(value)
    except (_UndecidedError, RecursionError):
        _count(value, what)
        return value
    with _lock:
        first = _known.get(key, value)
    if first is not value and not _still(first, value):
        first = value  # what the first one reads has changed since
    with _lock:
        _known[key] = first
        _keep_newest(_known, key)
    return first


def _still(first: Any, value: Any) -> bool:
    """Return whether the first value is the program of a new one still, after it was used."""
    try:
        return _Reader(used=True).key(first) == _Reader(used=True).key(value)
    except (_UndecidedError, RecursionError):
        return False


def _keep_newest(remembered: OrderedDict[Any, Any], key: Any) -> None:
    """Make a key the newest, and forget the oldest of too many."""
    remembered.move_to_end(key)
    while len(remembered) > MOST:
        remembered.popitem(last=False)


class _Reader:
    """Makes the key of one value: two values with equal keys are the same program.

    Args:
        used: whether one may have been used, and the other not: a schedule of optax makes a float of its whole number
            of steps when it is first called.
    """

    def __init__(self, used: bool = False) -> None:
        self._used = used
        self._open: dict[int, int] = {}  # functions whose key is being made, which may call themselves
        self._of_library = False  # whether what is read is held by a library's function, which changes nothing of it

    def key(self, value: Any) -> Hashable:
        """Return the key of a value.

        Raises:
            _UndecidedError: if it holds what may change.
        """
        if self._used and self._of_library and type(value) is int:
            value = float(value)
        for read in (_constant, self._callable, self._structure):
            if (key := read(value)) is not None:
                return key
        raise _UndecidedError

    def _callable(self, value: Any) -> Hashable | None:
        """Return the key of a function, or of what binds arguments to one."""
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return "method", self.key(value.__self__), self.key(value.__func__)
        if isinstance(value, functools.partial):
            return "partial", self.key(value.func), self.key(value.args), self._named(value.keywords)
        return ("itself", id(value)) if _is_library(value) else None

    def _structure(self, value: Any) -> Hashable | None:
        """Return the key of a tuple, or of a library's frozen dataclass; of a library, of what it holds too."""
        if not _is_library(type(value)):  # a class of one's own may read what changes
            return None
        if isinstance(value, tuple):
            return type(value), *map(self.key, value)
        if dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen:  # type: ignore[union-attr]
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return "dataclass", id(type(value)), self._named(fields)
        return self._contents(value) if self._of_library else None

    def _function(self, function: FunctionType) -> Hashable:
        if id(function) in self._open:
            return "open", self._open[id(function)]
        self._open[id(function)] = len(self._open)
        code = function.__code__
        read: dict[str, Any] = {}
        library = _root(function.__globals__.get("__name__")) in LIBRARIES  # its __module__ may be that of another
        if not library:
            if not _reads_only(code):
                raise _UndecidedError
            read = {name: function.__globals__[name] for name in _names(code) if name in function.__globals__}
        outside, self._of_library = self._of_library, library
        try:
            cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
            parts = self.key(cells), self.key(function.__defaults__), self._named(function.__kwdefaults__ or {})
            attributes = self._named(vars(function))
        except ValueError as error:  # a cell that nothing was put into yet
            raise _UndecidedError from error
        finally:
            self._of_library = outside
        return "function", code, id(function.__globals__), *parts, attributes, self._named(read)

    def _contents(self, value: Any) -> Hashable | None:
        """Return the key of a list, a dictionary with words for keys, or an array of a few numbers."""
        if isinstance(value, list):
            return "list", *map(self.key, value)
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return "dict", tuple(value), self._named(value)
        if isinstance(value, np.ndarray) and value.size <= FEW and value.dtype != object:
            return "array", value.shape, str(value.dtype), value.tobytes()
        return None

    def _named(self, values: dict[str, Any]) -> Hashable:
        return tuple((name, self.key(value)) for name, value in sorted(values.items()))


def _constant(value: Any) -> Hashable | None:
    """Return the key of a number, a word, a dtype, or a choice of several."""
    if value is None or value is Ellipsis or isinstance(value, bool | int | str | bytes):
        return type(value), value
    if isinstance(value, float | complex):
        return type(value), repr(value)  # 0.0 is not -0.0, and NaN is NaN
    if isinstance(value, np.dtype):
        return "dtype", str(value)
    if isinstance(value, np.generic):
        return "scalar", str(value.dtype), value.tobytes()
    return ("choice", type(value), value.name) if isinstance(value, enum.Enum) and _is_library(type(value)) else None


def _is_library(value: Any) -> bool:
    """Return whether a value is a library's module or class, or a function of it that is no Python function."""
    if isinstance(value, ModuleType):
        return _root(value.__name__) in LIBRARIES
    if isinstance(value, type):
        return _root(value.__module__) in LIBRARIES
    if isinstance(value, BuiltinFunctionType):
        return getattr(value, "__self__", None) is None or isinstance(value.__self__, ModuleType)
    return callable(value) and hasattr(value, "__wrapped__") and _root(getattr(value, "__module__", "")) in LIBRARIES


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code, and those of the functions within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@functools.lru_cache(MOST)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the names that a function may read from its globals."""
    return tuple(sorted({name for part in _codes(code) for name in part.co_names}))


@functools.lru_cache(MOST)
def _reads_only(code: CodeType) -> bool:
    """Return whether a function imports nothing, reads only what it names, and changes no globals or closures."""
    if not BY_NAME.isdisjoint(_names(code)):
        return False
    changes = {"IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}
    for part in _codes(code):
        for instruction in dis.get_instructions(part):
            outer = instruction.opname in {"STORE_DEREF", "DELETE_DEREF"} and instruction.argval in part.co_freevars
            if outer or instruction.opname in changes:
                return False
    return True


def _count(value: Any, what: str) -> None:
    """Log a line if a value is the third of its code that cannot be decided."""
    function = _first_function(value)
    if function is None:
        return
    code = function.__code__
    with _lock:
        last, count = _undecided.get(code, (None, 0))
        if last is not None and last() is function:
            return
        _undecided[code] = weakref.ref(function), count + 1
        _keep_newest(_undecided, code)
    if count + 1 == OFTEN:
        _log.warning(
            "%s came as %d objects with the code of %s. JAX compiles for each, as they hold what may change. "
            "If they are the same, make one, and pass it each time.",
            what,
            OFTEN,
            function.__qualname__,
        )


def _first_function(value: Any) -> FunctionType | None:
    """Return a function among the parts of a value."""
    while isinstance(value, functools.partial | MethodType | tuple):
        if isinstance(value, tuple):
            if not value:
                return None
            value = value[-1]
        else:
            value = value.func if isinstance(value, functools.partial) else value.__func__
    return value if isinstance(value, FunctionType) else None


def forget() -> None:
    """Forget all values that were given."""
    with _lock:
        _known.clear()
        _undecided.clear()
