"""How BLiTZ writes its layers into a state dict (checked with its version 0.2.8)."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from bbb.networks import nn
from bbb.torch_states import Arrays, Format, Keys, Slot, log_softplus, rho_of

_GAUSSIANS = {name: Keys(f"{name}_mu", f"{name}_rho") for name in ("weight", "bias")}
_DRAWN = re.compile(r"(^|\.)(weight|bias)_sampler\.(mu|rho)$")
_UNREAD = re.compile(r"(^|\.)(weight_sampler\.eps_w|bias_sampler\.eps_w|bias_zero)$")


def _tidied(arrays: Arrays, places: Sequence[Slot]) -> Arrays:
    """Leave one array under the name of the layer's own: the sampler's, which is what is trained and drawn from.

    A sampler's arrays and its layer's own share memory until `.to(...)`, a copy or `MOPED_` parts them. The bias that a
    `BayesianLinear(bias=False)` keeps without using it is left out.
    """
    ordered = sorted(arrays, key=lambda key: bool(_DRAWN.search(key)))  # the sampler's replace the layer's own
    merged = {_DRAWN.sub(r"\1\2_\3", key): arrays[key] for key in ordered if not _UNREAD.search(key)}
    unused = {slot.prefix + key for slot in places if _keeps_unused(slot) for key in _GAUSSIANS["bias"]}
    return {key: value for key, value in merged.items() if key not in unused}


def _completed(arrays: Arrays, places: Sequence[Slot]) -> Arrays:
    """Add what BLiTZ keeps besides: the samplers' arrays, room for their noise, and zeros for an absent bias."""
    return arrays | dict(pair for slot in places for pair in _besides(arrays, slot))


def _besides(arrays: Arrays, slot: Slot) -> Iterator[tuple[str, np.ndarray]]:
    weight = arrays.get(f"{slot.prefix}weight_mu")
    if weight is None:
        return
    absent = np.zeros(len(weight), weight.dtype)
    spare = {slot.prefix + key: absent for key in _GAUSSIANS["bias"][:2]} if _keeps_unused(slot) else {}
    yield from spare.items()
    if "bias" not in slot.shapes and not spare:
        yield f"{slot.prefix}bias_zero", absent
    for name, keys in _GAUSSIANS.items():
        mean, rho = ((arrays | spare).get(slot.prefix + key) for key in keys[:2])
        if mean is not None:
            sampler = f"{slot.prefix}{name}_sampler"
            yield from {f"{sampler}.mu": mean, f"{sampler}.rho": rho, f"{sampler}.eps_w": np.zeros_like(mean)}.items()


def _keeps_unused(slot: Slot) -> bool:
    return isinstance(slot.layer, nn.Linear) and "bias" not in slot.shapes


FORMAT = Format(
    "BLiTZ",
    dict.fromkeys((nn.Linear, nn.Conv), _GAUSSIANS),
    log_std=log_softplus,
    scale=rho_of,
    tidied=_tidied,
    completed=_completed,
)
"""BLiTZ writes the ρ of σ = log(1 + exp(ρ)), every array twice, and no prior."""
