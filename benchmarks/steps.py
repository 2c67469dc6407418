"""Training steps of a classifier in every library: batches in turn, cross-entropy + kl_weight·KL/P, and Adam.

Every function returns a run that trains from the same start, whose answer is the cross-entropy of each step, in nats a
row: `data_term`; NumPyro reports only the whole cost, with the KL: `cost`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.contender import Arrays, Run, Settings


def batches(arrays: Arrays, settings: Settings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the batches (x, labels), which are taken in turn."""
    starts = range(0, settings["rows"], settings["batch"])
    return [(arrays["x"][i : i + settings["batch"]], arrays["labels"][i : i + settings["batch"]]) for i in starts]


def torch_training(arrays: Arrays, settings: Settings, threads: int, model: Any, penalty: Callable[[], Any]) -> Run:
    """Train a module of torch on cross-entropy + `penalty()`, one Python iteration per step.

    Adam in one fused kernel is its fastest form.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(settings["seed"])
    start = {name: value.clone() for name, value in model.state_dict().items()}
    given = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches(arrays, settings)]
    cross_entropy = torch.nn.CrossEntropyLoss()

    def run() -> dict[str, np.ndarray]:
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"], fused=True)
        terms = []
        for i in range(settings["steps"]):
            x, y = given[i % len(given)]
            term = cross_entropy(model(x), y)
            optimizer.zero_grad()
            (term + penalty()).backward()
            optimizer.step()
            terms.append(term.detach())
        return {"data_term": torch.stack(terms).numpy()}

    return run


def torchbnn_penalty(settings: Settings, model: Any) -> Callable[[], Any]:
    """Return kl_weight·KL/P of a module of torchbnn layers."""
    import torchbnn

    kl_per_weight = torchbnn.BKLLoss(reduction="mean")
    return lambda: settings["kl_weight"] * kl_per_weight(model)[0]


def bayesian_torch_penalty(settings: Settings, model: Any, count: int) -> Callable[[], Any]:
    """Return kl_weight·KL/P of a module of Bayesian-Torch layers.

    Its own `get_kl_loss` adds up the mean of each array, so that a bias counts as much as a matrix. Here the means are
    multiplied by how many numbers they are of.
    """
    import torch

    layers = [layer for layer in model.modules() if hasattr(layer, "kl_loss")]

    def penalty() -> Any:
        kl = 0.0
        for layer in layers:
            kind = "kernel" if hasattr(layer, "mu_kernel") else "weight"
            for part, prior in ((kind, "weight"), ("bias", "bias")):
                mean, std = getattr(layer, f"mu_{part}"), torch.nn.functional.softplus(getattr(layer, f"rho_{part}"))
                prior_mean, prior_std = (getattr(layer, f"prior_{prior}_{what}") for what in ("mu", "sigma"))
                kl = kl + layer.kl_div(mean, std, prior_mean, prior_std) * mean.numel()
        return settings["kl_weight"] * kl / count

    return penalty


def jax_training(arrays: Arrays, settings: Settings, apply: Callable[..., Any], loop: str) -> Run:
    """Train the network without Bayes on cross-entropy."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.adam(settings["learning_rate"])

    def cost(layers: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(apply(layers, x), labels))

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        layers, moments = state
        value, slope = jax.value_and_grad(cost)(layers, *batch)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(layers, updates), moments), value

    def start() -> Any:
        layers = networks.jax_layers(arrays, "mean")
        return layers, optimizer.init(layers)

    return _jax(arrays, settings, start, step, loop, donate=(0,))


def numpyro_training(arrays: Arrays, settings: Settings, apply: Callable[..., Any], loop: str) -> Run:
    """Use SVI with AutoNormal and TraceMeanField_ELBO; the cost is kl_weight/P times its ELBO of scaled rows."""
    import jax

    svi = networks.numpyro_svi(arrays, settings, numpyro_model(arrays, settings, apply))
    init = jax.jit(svi.init)  # else each of its many small operations is compiled by itself

    def start() -> Any:
        return init(jax.random.key(settings["seed"]), *batches(arrays, settings)[0])

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        return svi.update(state, *batch)

    run = _jax(arrays, settings, start, step, loop)
    cost_per_nat = settings["kl_weight"] / networks.count_weights(arrays)
    return lambda: {"cost": run()["data_term"] * cost_per_nat}


def numpyro_model(arrays: Arrays, settings: Settings, apply: Callable[..., Any]) -> Callable[..., None]:
    """Return the classifier as a NumPyro model, whose rows count for P/(kl_weight·batch)."""
    import numpyro
    from numpyro.distributions import Categorical
    from numpyro.handlers import scale

    per_row = networks.count_weights(arrays) / (settings["kl_weight"] * settings["batch"])

    def observe(f: Any, y: Any) -> None:
        with scale(scale=per_row):
            numpyro.sample("y", Categorical(logits=f).to_event(1), obs=y)

    return networks.numpyro_model(arrays, settings["prior_std"], observe, apply)


def _jax(
    arrays: Arrays,
    settings: Settings,
    start: Callable[[], Any],
    step: Callable[..., Any],
    loop: str,
    donate: tuple[int, ...] = (),
) -> Run:
    """Run `step(state, batch)`: jitted in a Python loop, or scanned in one compiled program."""
    import jax
    import jax.numpy as jnp

    given = [jax.tree.map(jnp.asarray, batch) for batch in batches(arrays, settings)]
    order = [i % len(given) for i in range(settings["steps"])]
    if loop == "scan":
        x, y = (jnp.stack(part) for part in zip(*given, strict=True))

        @jax.jit
        def scanned(state: Any, x: Any, y: Any, order: Any) -> Any:
            return jax.lax.scan(lambda state, i: step(state, (x[i], y[i])), state, order)[1]

        return lambda: {"data_term": np.asarray(scanned(start(), x, y, jnp.asarray(order)))}
    jitted = jax.jit(step, donate_argnums=donate)

    def run() -> dict[str, np.ndarray]:
        state, terms = start(), []
        for i in order:
            state, term = jitted(state, given[i])
            terms.append(term)
        return {"data_term": np.asarray(jnp.stack(terms))}

    return run


def bbb_training(arrays: Arrays, settings: Settings, model: Any, forward: str) -> Run:
    """Use `bbb.fit`."""
    import jax
    import optax

    import bbb

    optimizer, random = optax.adam(settings["learning_rate"]), getattr(bbb.forwards, forward)(model.apply)
    cost = _cross_entropy_cost(networks.count_weights(arrays))

    def run() -> dict[str, np.ndarray]:
        _, history = bbb.fit(
            jax.random.key(settings["seed"]),
            model,
            arrays["x"],
            arrays["y"],
            steps=settings["steps"],
            optimizer=optimizer,
            batch_size=settings["batch"],
            objective=bbb.train.Objective(cost, kl_weight=settings["kl_weight"], forward=random),
            progress=False,
        )
        return {"data_term": history.data_term}

    return run


def _cross_entropy_cost(count: int) -> Callable[..., Any]:
    """Return the cost CE + kl_weight·KL/P for `fit`; each row of y has a single 1."""
    import jax
    import jax.numpy as jnp

    import bbb

    def cross_entropy_cost(
        model: Any, outputs: Any, y: Any, row_weights: Any, num_data: int, kl_weight: Any
    ) -> bbb.objectives.Cost:
        del num_data
        nats = -jnp.mean(jnp.sum(y[None] * jax.nn.log_softmax(outputs), axis=-1), axis=0)  # (rows,)
        cross_entropy = jnp.dot(nats, row_weights) / jnp.sum(row_weights)
        kl = bbb.priors.kl(model.posterior, model.prior)
        return bbb.objectives.Cost(cross_entropy + kl_weight * kl / count, cross_entropy, kl)

    return cross_entropy_cost
