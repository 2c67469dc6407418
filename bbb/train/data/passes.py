"""The batches of pass after pass, and where they stand, for a stream that can say so.

A stream has a state of its own where it, or the iterator of a pass, has a pair of methods: `get_state()` and
`set_state(state)`, as grain's iterators have, or `state_dict()` and `load_state_dict(state)`, as torchdata's
`StatefulDataLoader` has. The state that the first returns after a batch is one from which the second lets the very next
batch follow: at once, of an iterator; of what is iterated over, from its next iterator. After the last batch of a pass
it may be that there is none, or the first of the next pass. A state is what `bbb.train.data.states` can write.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from bbb.train.data.states import decoded, encoded

PAIRS = (("get_state", "set_state"), ("state_dict", "load_state_dict"))
"""The names of the methods that return a state, and go to it."""


class StateMethods(NamedTuple):
    """What returns the state of a stream, and what goes to it."""

    get: Callable[[], Any]
    go_to: Callable[[Any], Any]


class Passes:
    """The batches of a stream, pass after pass, until one has none."""

    def __init__(self, data: Any) -> None:
        self._data, self._number = data, -1
        self._batches: Iterator[Any] | None = None
        self._methods: StateMethods | None = None
        self._is_empty = True

    def __iter__(self) -> Iterator[Any]:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next batch, of this pass or the next."""
        while True:
            if self._batches is None:
                self._begin(self._number + 1)
            for batch in self._batches or ():
                self._is_empty = False
                return batch
            self._batches = None
            if self._is_empty:
                raise StopIteration

    def place(self) -> Any:
        """Return where the stream stands, as JSON can hold it: after the last batch; None if it cannot say so.

        Raises:
            InputError: if its state holds what cannot be written.
        """
        if self._methods is None:
            return None
        return {"pass": self._number, "state": encoded(self._methods.get())}

    def go_to(self, place: Any) -> bool:
        """Go to a place, and return True; or return False if the stream has no state.

        Raises:
            Exception: what the stream raises at a state that is not its own.
        """
        state = decoded(place["state"])
        self._begin(int(place["pass"]), lambda methods: methods.go_to(state))
        self._is_empty = False  # the place may be after the last batch
        if self._methods is None:
            self._batches, self._number = None, -1
        return self._methods is not None

    def _begin(self, number: int, moved: Callable[[StateMethods], object] = lambda _: None) -> None:
        """Begin a pass, from where its methods are moved to, if it has any."""
        source = self._data if isinstance(self._data, Iterable) else self._data(number)
        methods = _methods_of(source)
        if methods is not None:
            moved(methods)
        batches = iter(source)
        if methods is None:
            methods = _methods_of(batches)
            if methods is not None:
                moved(methods)
        self._number, self._batches, self._methods, self._is_empty = number, batches, methods, True


def _methods_of(source: Any) -> StateMethods | None:
    for names in PAIRS:
        methods = [getattr(source, name, None) for name in names]
        if all(map(callable, methods)):
            return StateMethods(*methods)  # type: ignore[arg-type]
    return None
