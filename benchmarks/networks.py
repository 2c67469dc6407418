"""The same dense ReLU network in every library, made from the same arrays.

Arrays are named `mean_0_weight`, `mean_0_bias`, `std_0_weight`, … for layer 0, 1, …; weights are (out, in), as torch
stores them. Each library stores them in its usual way.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.contender import Arrays, Run, Settings

Layers = list[tuple[Any, Any]]
"""The weight and the bias of each layer."""


def start(sizes: Sequence[int], std: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw torchbnn's initial parameters for layers of these sizes: means U(±1/√in), and one std."""
    rng = np.random.default_rng(seed)
    means = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        bound = 1 / math.sqrt(fan_in)
        means.append((rng.uniform(-bound, bound, (fan_out, fan_in)), rng.uniform(-bound, bound, fan_out)))
    stds = [(np.full_like(weight, std), np.full_like(bias, std)) for weight, bias in means]
    return pack(means, stds)


def pack(means: Layers, stds: Layers) -> dict[str, np.ndarray]:
    """Return the arrays of a posterior by name, in float32."""
    named = {
        f"{what}_{i}_{part}": array
        for what, layers in (("mean", means), ("std", stds))
        for i, layer in enumerate(layers)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }
    return {name: np.asarray(array, np.float32) for name, array in named.items()}


def unpack(arrays: Arrays, what: str) -> Layers:
    """Return the weights and biases of "mean" or "std" of each layer."""
    count = sum(name.startswith(f"{what}_") for name in arrays) // 2
    return [(arrays[f"{what}_{i}_weight"], arrays[f"{what}_{i}_bias"]) for i in range(count)]


def count_weights(arrays: Arrays) -> int:
    """Return P, the number of Gaussian weights."""
    return sum(weight.size + bias.size for weight, bias in unpack(arrays, "mean"))


# torch


def torch_network(arrays: Arrays) -> Any:
    """Return the network without Bayes."""
    import torch

    return _torch_sequence(arrays, lambda mean, _: torch_layer(torch.nn.Linear, mean))


def torchbnn_network(arrays: Arrays, settings: Settings) -> Any:
    """Return the network of torchbnn layers."""
    import torchbnn

    return _torch_sequence(
        arrays, lambda mean, std: torchbnn_layer(torchbnn.BayesLinear, mean, std, settings["prior_std"])
    )


def bayesian_torch_network(arrays: Arrays, settings: Settings, estimator: str) -> Any:
    """Return the network of Bayesian-Torch layers, "Flipout" or "Reparameterization"."""
    from bayesian_torch import layers

    kind = getattr(layers, f"Linear{estimator}")
    return _torch_sequence(arrays, lambda mean, std: bayesian_torch_layer(kind, mean, std, settings["prior_std"]))


def _torch_sequence(arrays: Arrays, make: Callable[[Any, Any], Any]) -> Any:
    import torch

    layers: list[Any] = []
    for mean, std in zip(unpack(arrays, "mean"), unpack(arrays, "std"), strict=True):
        layers += [make(mean, std), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_layer(kind: Any, mean: Any, **options: Any) -> Any:
    """Return a layer of torch, dense or a convolution, with a weight and a bias."""
    layer = kind(*_torch_sizes(mean), **options)
    return _with_values(layer, {"weight": mean[0], "bias": mean[1]})


def torchbnn_layer(kind: Any, mean: Any, std: Any, prior_std: float, **options: Any) -> Any:
    """Return a layer of torchbnn, dense or a convolution, with the means and stds of its weight and its bias."""
    layer = kind(0.0, prior_std, *_torch_sizes(mean), **options)
    values = {"weight_mu": mean[0], "bias_mu": mean[1]}
    return _with_values(layer, values | {"weight_log_sigma": np.log(std[0]), "bias_log_sigma": np.log(std[1])})


def bayesian_torch_layer(kind: Any, mean: Any, std: Any, prior_std: float, **options: Any) -> Any:
    """Return the same of Bayesian-Torch, whose stds are softplus(rho), and whose `prior_variance` is used as a std.

    The KL that a layer computes along with its outputs weighs its parts otherwise (see `steps`), and is not asked for.
    """
    layer = kind(*_torch_sizes(mean), prior_mean=0.0, prior_variance=prior_std, **options)
    layer.dnn_to_bnn_flag = True  # it returns its outputs alone
    name = "kernel" if hasattr(layer, "mu_kernel") else "weight"
    rho = [np.log(np.expm1(part)) for part in std]
    values = {f"mu_{name}": mean[0], "mu_bias": mean[1], f"rho_{name}": rho[0], "rho_bias": rho[1]}
    return _with_values(layer, values)


def _torch_sizes(mean: Any) -> tuple[Any, ...]:
    fan_out, fan_in, *kernel = mean[0].shape
    return (fan_in, fan_out, tuple(kernel)) if kernel else (fan_in, fan_out)


def _with_values(layer: Any, values: dict[str, np.ndarray]) -> Any:
    import torch

    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).copy_(torch.from_numpy(np.array(value)))
    return layer


def torchbnn_posterior(model: Any) -> dict[str, np.ndarray]:
    """Return the posterior of a torchbnn network as arrays."""
    layers = [layer for layer in model if hasattr(layer, "weight_mu")]
    means = [(layer.weight_mu.detach(), layer.bias_mu.detach()) for layer in layers]
    stds = [(layer.weight_log_sigma.detach().exp(), layer.bias_log_sigma.detach().exp()) for layer in layers]
    return pack(means, stds)


def torch_apply(layers: Layers, x: Any) -> Any:
    """Run the network in torch; weights (out, in)."""
    from torch.nn.functional import linear, relu

    for weight, bias in layers[:-1]:
        x = relu(linear(x, weight, bias))
    return linear(x, *layers[-1])


def torchbnn_draws(arrays: Arrays, settings: Settings, threads: int) -> Run:
    """Return a run of the plain loop, one call of the network per draw, which returns their mean and std."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    model = torchbnn_network(arrays, settings)
    x = torch.from_numpy(arrays["x_test"])
    return torch_chunks(lambda: model(x)[None], settings, 1)


def torch_chunks(draw: Callable[[], Any], settings: Settings, chunk: int) -> Run:
    """Return a run that calls `draw()` for `chunk` draws at a time, and returns their mean and std.

    The draws go into one preallocated tensor: in a list, each would keep the heap around it alive, 7 GB in total.
    """
    import torch

    def run() -> dict[str, np.ndarray]:
        with torch.no_grad():
            first = draw()
            f = torch.empty(settings["draws"], *first.shape[1:])
            f[:chunk] = first
            for start in range(chunk, settings["draws"], chunk):
                f[start : start + chunk] = draw()
            return {"mean": f.mean(0).numpy(), "std": f.std(0).numpy()}

    return run


# JAX, as a user without bbb writes it: batch-major, weights (in, out)


def jax_layers(arrays: Arrays, what: str) -> Layers:
    """Return the layers as JAX arrays, weights (in, out), or (height, width, in, out) of a convolution."""
    import jax.numpy as jnp

    return [(jnp.asarray(np.moveaxis(weight, (1, 0), (-2, -1))), jnp.asarray(b)) for weight, b in unpack(arrays, what)]


def jax_posterior(means: Layers, stds: Layers) -> dict[str, np.ndarray]:
    """Return the arrays of a posterior with weights (in, out) by name."""

    def turn(layers: Layers) -> Layers:
        return [(np.asarray(weight).T, bias) for weight, bias in layers]

    return pack(turn(means), turn(stds))


def jax_apply(layers: Layers, x: Any) -> Any:
    """Run the network in JAX; weights (in, out)."""
    import jax

    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def numpyro_model(
    arrays: Arrays, prior_std: float, observe: Callable[[Any, Any], None], apply: Callable[..., Any] = jax_apply
) -> Callable[..., None]:
    """Return a NumPyro model of the network, which calls `observe(f, y)` with its outputs if there is a y."""
    import numpyro
    from numpyro.distributions import Normal

    layers = jax_layers(arrays, "mean")

    def site(name: str, like: Any) -> Any:
        return numpyro.sample(name, Normal(0.0, prior_std).expand(like.shape).to_event(like.ndim))

    def model(x: Any, y: Any = None) -> None:
        weights = [(site(f"weight{i}", weight), site(f"bias{i}", bias)) for i, (weight, bias) in enumerate(layers)]
        f = numpyro.deterministic("f", apply(weights, x))
        if y is not None:
            observe(f, y)

    return model


def numpyro_svi(arrays: Arrays, settings: Settings, model: Any) -> Any:
    """Return SVI with AutoNormal and TraceMeanField_ELBO, which starts at the arrays."""
    import numpyro
    from numpyro.infer import SVI, TraceMeanField_ELBO
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.infer.initialization import init_to_value

    start = init_to_value(values=numpyro_values(jax_layers(arrays, "mean")))
    guide = AutoNormal(model, init_loc_fn=start, init_scale=float(arrays["std_0_bias"][0]))
    return SVI(model, guide, numpyro.optim.Adam(settings["learning_rate"]), TraceMeanField_ELBO())


def numpyro_draws(arrays: Arrays, model: Any, x: Any, count: int, *, parallel: bool) -> Callable[[Any], Any]:
    """Return `draw(key)`: `count` draws of f by Predictive, jitted; the arrays are the posterior."""
    import jax
    from numpyro.handlers import seed
    from numpyro.infer import Predictive
    from numpyro.infer.autoguide import AutoNormal

    guide = AutoNormal(model)
    params = numpyro_values(jax_layers(arrays, "mean"), "_auto_loc")
    params |= numpyro_values(jax_layers(arrays, "std"), "_auto_scale")
    with seed(rng_seed=jax.random.key(0)):
        guide(x)  # it inspects its model once, which must not happen inside a compiled function

    @jax.jit
    def draw(key: Any, params: Any) -> Any:
        return Predictive(model, guide=guide, params=params, num_samples=count, parallel=parallel)(key, x)["f"]

    return lambda key: draw(key, params)


def numpyro_values(layers: Layers, suffix: str = "") -> dict[str, Any]:
    """Return the layers under the names of NumPyro's sites, with AutoNormal's suffix."""
    named = {f"weight{i}{suffix}": weight for i, (weight, _) in enumerate(layers)}
    return named | {f"bias{i}{suffix}": bias for i, (_, bias) in enumerate(layers)}


def numpyro_layers(values: Any, count: int, suffix: str = "") -> Layers:
    """Return the layers from NumPyro's values by site."""
    return [(values[f"weight{i}{suffix}"], values[f"bias{i}{suffix}"]) for i in range(count)]


def jax_chunks(draw: Callable[[Any], Any], settings: Settings, chunk: int) -> Run:
    """Return a run that calls `draw(key)` for `chunk` draws at a time, and returns their mean and std."""
    import jax
    import jax.numpy as jnp

    def run() -> dict[str, np.ndarray]:
        keys = jax.random.split(jax.random.key(settings["seed"]), math.ceil(settings["draws"] / chunk))
        f = jnp.concatenate([draw(key) for key in keys])
        return {"mean": np.asarray(f.mean(0)), "std": np.asarray(f.std(0, ddof=1))}

    return run


# bbb


def bbb_model(arrays: Arrays, settings: Settings, noise: float = 1.0, library: str = "bbb") -> Any:
    """Return the network of a library's layers, with the arrays as its posterior."""
    import bbb

    network, mean, std = _NETWORKS[library](arrays)
    prior, likelihood = bbb.priors.Normal(0.0, settings["prior_std"]), bbb.likelihoods.Gaussian(noise)
    return bbb.bayesianize(network, mean, prior=prior, likelihood=likelihood, std=std)


def _bbb_network(arrays: Arrays) -> tuple[Any, Any, Any]:
    import jax.numpy as jnp

    import bbb

    def tree(what: str) -> tuple[Any, ...]:
        layers: list[Any] = []
        for weight, bias in unpack(arrays, what):
            layers += [{"weight": jnp.asarray(weight), "bias": jnp.asarray(bias)}, ()]
        return tuple(layers[:-1])

    layers: list[Any] = []
    for weight, _ in unpack(arrays, "mean"):
        layers += [bbb.nn.linear(weight.shape[1], weight.shape[0]), bbb.nn.relu]
    return bbb.nn.sequential(*layers[:-1]).apply, tree("mean"), tree("std")


def _flax_network(arrays: Arrays) -> tuple[Any, Any, Any]:
    import flax.linen as nn

    def tree(what: str) -> dict[str, Any]:
        layers = enumerate(jax_layers(arrays, what))
        return {"params": {f"layers_{2 * i}": {"kernel": weight, "bias": bias} for i, (weight, bias) in layers}}

    layers: list[Any] = []
    for weight, _ in unpack(arrays, "mean"):
        layers += [nn.Dense(weight.shape[0]), nn.relu]
    return nn.Sequential(layers[:-1]), tree("mean"), tree("std")


def _equinox_network(arrays: Arrays) -> tuple[Any, Any, Any]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import bbb

    def model(what: str) -> Any:
        layers: list[Any] = []
        for weight, bias in unpack(arrays, what):
            layer = eqx.nn.Linear(weight.shape[1], weight.shape[0], key=jax.random.key(0))
            new = (jnp.asarray(weight), jnp.asarray(bias))
            layers += [eqx.tree_at(lambda linear: (linear.weight, linear.bias), layer, new), eqx.nn.Lambda(jax.nn.relu)]
        return eqx.nn.Sequential(layers[:-1])

    network = bbb.networks.adapters.equinox(model("mean"))
    return network.apply, network.params, bbb.networks.adapters.equinox(model("std")).params


_NETWORKS: dict[str, Callable[[Arrays], tuple[Any, Any, Any]]] = {
    "bbb": _bbb_network,
    "flax": _flax_network,
    "equinox": _equinox_network,
}
"""The network, its means and its stds, each in the form of the library."""


def bbb_posterior(model: Any, library: str = "bbb") -> dict[str, np.ndarray]:
    """Return the posterior of a bbb model as arrays."""

    def layers(tree: Any) -> Layers:
        if library == "flax":
            dense = sorted(tree["params"].items(), key=lambda item: int(item[0].removeprefix("layers_")))
            return [(np.asarray(layer["kernel"]).T, layer["bias"]) for _, layer in dense]
        if library == "equinox":
            return [(layer.weight, layer.bias) for layer in tree.layers if hasattr(layer, "weight")]
        return [(layer["weight"], layer["bias"]) for layer in tree if layer]

    return pack(layers(model.posterior.mean), layers(model.posterior.std))


def bbb_predictive(arrays: Arrays, settings: Settings, library: str = "bbb", **options: Any) -> Run:
    """Return a run of `bbb.predict` with some options, which returns the mean and std of f."""
    import jax

    import bbb

    model = bbb_model(arrays, settings, library=library)

    def run() -> dict[str, np.ndarray]:
        key = jax.random.key(settings["seed"] + 1)  # not the one that trained: noise must be fresh
        band = bbb.predict(key, model, arrays["x_test"], **{"draws": settings["draws"], **options})
        return {"mean": np.asarray(band.f.mean), "std": np.asarray(band.f.std)}

    return run
