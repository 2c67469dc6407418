"""`python -m tests.torch_states`: write the state dicts of `cases`, and what the libraries make of them.

It needs both libraries: `python -m pip install torch==2.13.0 tqdm`, then `python -m pip install --no-deps
bayesian-torch==0.5.0 blitz-bayesian-pytorch==0.2.8`, whose other requirements their layers do not import.
"""

import json

import numpy as np
import safetensors.numpy
import torch

from reference.regression import summarise
from tests.torch_states import cases, libraries


def made_of(name):
    """Write the state dict of a case, and return the numbers that are compared."""
    model, x = libraries.made(name), cases.rows(name)
    state = libraries.arrays(model)
    safetensors.numpy.save_file(state, cases.NUMBERS.parent / f"{name}.safetensors")
    torch.manual_seed(0)
    outputs, kls = libraries.drawn(model, x, cases.DRAWS)
    band = summarise(outputs, 1.0)
    error = kls.std() / np.sqrt(len(kls))
    found = {"at_means": libraries.at_means(model, x), "kl": kls.mean(), "mcse_kl": error if error > 1e-6 else 0.0}
    return found | {part: getattr(band, part) for part in ("mean", "std", "mcse_mean", "mcse_std")}


def main():
    """Write everything anew."""
    stored = {
        name: {part: np.round(np.asarray(value, float), 9).tolist() for part, value in made_of(name).items()}
        for name in cases.CASES
    }
    cases.NUMBERS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
