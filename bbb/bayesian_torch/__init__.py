"""Models from the state dicts of Bayesian-Torch (IntelLabs), and back, without importing torch."""

from bbb.bayesian_torch.states import from_state_dict, to_state_dict

__all__ = ["from_state_dict", "to_state_dict"]
