"""State dicts of torch's Bayesian libraries into models and back, without importing torch.

A library's package describes how it writes a Gaussian, by a `Format`; the rest is the same for all of them.
"""

from bbb.torch_states.formats import Arrays, Format, Keys
from bbb.torch_states.models import from_arrays, to_arrays
from bbb.torch_states.reading import Read, StateDict, read
from bbb.torch_states.slots import Slot, arrays_of
from bbb.torch_states.softplus import log_softplus, rho_of

__all__ = [
    "Arrays",
    "Format",
    "Keys",
    "Read",
    "Slot",
    "StateDict",
    "arrays_of",
    "from_arrays",
    "log_softplus",
    "read",
    "rho_of",
    "to_arrays",
]
