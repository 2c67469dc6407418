"""Models of torchbnn: its cost, what its `kl_weight` means, and its state dicts."""

from bbb.torchbnn.cost import LastLayerWarning, TorchbnnCost, cross_entropy_cost, last_bias_kl, mse_cost
from bbb.torchbnn.kl_weight import KLWeight, explain_kl_weight, implied_noise_std
from bbb.torchbnn.states import from_state_dict, frozen_noise, to_state_dict

__all__ = [
    "KLWeight",
    "LastLayerWarning",
    "TorchbnnCost",
    "cross_entropy_cost",
    "explain_kl_weight",
    "from_state_dict",
    "frozen_noise",
    "implied_noise_std",
    "last_bias_kl",
    "mse_cost",
    "to_state_dict",
]
