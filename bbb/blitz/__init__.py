"""Models from the state dicts of BLiTZ (blitz-bayesian-pytorch), and back, without importing torch."""

from bbb.blitz.states import from_state_dict, to_state_dict

__all__ = ["from_state_dict", "to_state_dict"]
