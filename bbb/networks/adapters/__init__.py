"""Networks of flax, equinox and haiku."""

from bbb.networks.adapters.common import Network
from bbb.networks.adapters.equinox_model import Equinox, equinox
from bbb.networks.adapters.flax_linen import Linen, linen
from bbb.networks.adapters.flax_nnx import NNX, nnx
from bbb.networks.adapters.haiku_transform import Haiku, haiku
from bbb.networks.adapters.select import network, restore

__all__ = [
    "NNX",
    "Equinox",
    "Haiku",
    "Linen",
    "Network",
    "equinox",
    "haiku",
    "linen",
    "network",
    "nnx",
    "restore",
]
