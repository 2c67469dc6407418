"""Larger networks: a training step of a residual network and of a vision transformer, on images of 32 × 32 × 3.

The data are random images with the labels of a random linear teacher; nothing is downloaded. ResNet-20 has 0.27 million
weights and the transformer of two blocks 0.40 million; all of them are Bayesian. A step is that of `benchmarks.mlp`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import architectures, mlp, networks, program, race, steps
from benchmarks.architectures import Shape
from benchmarks.contender import Arrays, Contender, Run, Settings
from benchmarks.report import Section

PROGRAM = "benchmarks.larger"
TITLE = "Larger networks"
COMMON: dict[str, Any] = {
    "classes": 10,
    "side": 32,
    "std": 0.01,
    "prior_std": 0.1,
    "kl_weight": 0.1,
    "learning_rate": 1e-3,
    "seed": 0,
}
FULL: dict[str, Any] = {
    "resnet": {"width": 16, "blocks": 3, "batch": 32, "rows": 128, "steps": 4},
    "transformer": {"width": 128, "blocks": 2, "heads": 4, "patch": 4, "batch": 16, "rows": 128, "steps": 24},
}
QUICK: dict[str, Any] = {
    "resnet": {"side": 8, "width": 4, "blocks": 1, "batch": 4, "rows": 8, "steps": 4},
    "transformer": {"side": 8, "width": 8, "blocks": 1, "heads": 2, "patch": 4, "batch": 4, "rows": 8, "steps": 4},
}
NAMES = {"resnet": "ResNet", "transformer": "Transformer"}


def shapes(settings: Settings) -> dict[str, Shape]:
    """Return the layers of the network by name."""
    return getattr(architectures, f"{settings['network']}_layers")(settings)


# Training: prepare(arrays, settings) -> run() -> the cross-entropy of each step, in nats a row


def train_plain_torch(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Train the network without Bayes."""
    import torch

    kinds = {"Linear": torch.nn.Linear, "Conv2d": torch.nn.Conv2d}

    def make(kind: str, mean: Any, _: Any, **how: Any) -> Any:
        return networks.torch_layer(kinds[kind], mean, **how)

    model = _torch(arrays, settings, make)
    return steps.torch_training(arrays, settings, threads, model, lambda: 0.0)


def train_torchbnn(arrays: Arrays, settings: Settings, *, threads: int) -> Run:
    """Use torchbnn's layers."""
    import torchbnn

    def make(kind: str, mean: Any, std: Any, **how: Any) -> Any:
        return networks.torchbnn_layer(getattr(torchbnn, f"Bayes{kind}"), mean, std, settings["prior_std"], **how)

    model = _torch(arrays, settings, make)
    return steps.torch_training(arrays, settings, threads, model, steps.torchbnn_penalty(settings, model))


def train_bayesian_torch(arrays: Arrays, settings: Settings, *, threads: int, estimator: str) -> Run:
    """Use Bayesian-Torch's layers."""
    from bayesian_torch import layers

    def make(kind: str, mean: Any, std: Any, **how: Any) -> Any:
        kind = getattr(layers, f"{kind}{estimator}")
        return networks.bayesian_torch_layer(kind, mean, std, settings["prior_std"], **how)

    model = _torch(arrays, settings, make)
    penalty = steps.bayesian_torch_penalty(settings, model, networks.count_weights(arrays))
    return steps.torch_training(arrays, settings, threads, model, penalty)


def _torch(arrays: Arrays, settings: Settings, make: Callable[..., Any]) -> Any:
    """Return the network of layers `make("Linear" or "Conv2d", mean, std, ...)`."""
    layers, found = {}, zip(networks.unpack(arrays, "mean"), networks.unpack(arrays, "std"), strict=True)
    for (name, shape), (mean, std) in zip(shapes(settings).items(), found, strict=True):
        how = {"stride": shape.stride, "padding": shape.kernel // 2} if shape.kernel else {}
        layers[name] = make("Conv2d" if shape.kernel else "Linear", mean, std, **how)
    return architectures.torch_module(layers, getattr(architectures, settings["network"]), settings)


def train_plain_jax(arrays: Arrays, settings: Settings, *, loop: str) -> Run:
    """Train the network without Bayes, by a jitted step."""
    return steps.jax_training(_rows_first(arrays), settings, _apply(settings), loop)


def train_numpyro(arrays: Arrays, settings: Settings, *, loop: str) -> Run:
    """Use SVI with AutoNormal and TraceMeanField_ELBO."""
    return steps.numpyro_training(_rows_first(arrays), settings, _apply(settings), loop)


def train_bbb(arrays: Arrays, settings: Settings, *, forward: str) -> Run:
    """Use `bbb.fit`."""
    import bbb

    mean, std = (networks.jax_layers(arrays, what) for what in ("mean", "std"))
    prior, likelihood = bbb.priors.Normal(0.0, settings["prior_std"]), bbb.likelihoods.Gaussian(1.0)
    model = bbb.bayesianize(_apply(settings), mean, prior=prior, likelihood=likelihood, std=std)
    return steps.bbb_training(_rows_first(arrays), settings, model, forward)


def _apply(settings: Settings) -> Callable[[Any, Any], Any]:
    return architectures.jax_apply(shapes(settings), getattr(architectures, settings["network"]), settings)


def _rows_first(arrays: Arrays) -> Arrays:
    """Return the arrays with the channels of images along their last axis, as JAX computes fastest."""
    x = arrays["x"]
    return {**arrays, "x": np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x}


TORCH, JAX, OTHERS = ("torch", "torchbnn"), ("jax", "jax.numpy", "optax"), ("torch", "bayesian_torch")
NUMPYRO = ("jax", "numpyro", "numpyro.infer.autoguide")
CORES = {"threads": 2}
LOOPS = ({"loop": "python"}, {"loop": "scan"})
FORWARDS = ("weight_sampling", "local_reparam", "flipout")
CONTENDERS = {
    mlp.PLAIN_TORCH: Contender(train_plain_torch, ("torch",), (CORES,), why=mlp.WHY_TORCH),
    mlp.PLAIN: Contender(train_plain_jax, JAX, LOOPS, why=mlp.WHY_JAX),
    "torchbnn": Contender(train_torchbnn, TORCH, (CORES,), why=mlp.WHY_TORCH),
    **{
        f"Bayesian-Torch {e}": Contender(train_bayesian_torch, OTHERS, (CORES | {"estimator": e},), why=mlp.WHY_TORCH)
        for e in ("Flipout", "Reparameterization")
    },
    "numpyro": Contender(train_numpyro, NUMPYRO, LOOPS[:1], why=mlp.WHY_NUMPYRO),
    **{f"bbb {f}": Contender(train_bbb, (*JAX, "bbb"), ({"forward": f},)) for f in FORWARDS},
}
LOOPED = Contender(train_plain_jax, JAX, LOOPS[:1], why=mlp.WHY_CONVOLUTIONS)
WORKS = {"resnet": CONTENDERS | {mlp.PLAIN: LOOPED}, "transformer": CONTENDERS}


# The run


def problem(network: str, *, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the data, the initial parameters and the settings."""
    settings = COMMON | FULL[network] | (QUICK[network] if quick else {}) | {"network": network}
    rng, side = np.random.default_rng(settings["seed"]), settings["side"]
    images = rng.normal(size=(settings["rows"], 3, side, side)).astype(np.float32)
    labels = np.argmax(images.reshape(len(images), -1) @ rng.normal(size=(3 * side**2, settings["classes"])), axis=1)
    x = images if network == "resnet" else architectures.patches(images, settings["patch"])
    means = [shape.draw(rng) for shape in shapes(settings).values()]
    stds = [tuple(np.full_like(part, settings["std"]) for part in layer) for layer in means]
    arrays = {"x": x, "labels": labels, "y": np.eye(settings["classes"], dtype=np.float32)[labels]}
    return arrays | networks.pack(means, stds), settings


def sections(options: program.Options) -> Iterator[Section]:
    """Race the training of both networks."""
    for network, name in NAMES.items():
        arrays, settings = problem(network, quick=options.quick)
        results = race.race(PROGRAM, network, arrays, settings, **options.race)
        judged = [_noted(race.judged(result, mlp.training_quality, arrays, settings)) for result in results]
        title = "{name}, {weights:,} weights: {steps} steps of {batch} images"
        title = title.format(name=name, weights=networks.count_weights(arrays), **settings)
        yield mlp.training_section(title, judged, settings)


def _noted(result: race.Result) -> race.Result:
    """Return a result with what its forward leaves out."""
    approximate = result.name == "bbb local_reparam" and not result.note
    return dataclasses.replace(result, note=APPROXIMATE) if approximate else result


APPROXIMATE = "approximate: draws each place of an image by itself, and warns of it"


if __name__ == "__main__":
    program.main(TITLE, sections, __doc__, works=WORKS)
