"""Where parameters lie on a mesh."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bbb.core.jit import jit
from bbb.core.noise import SMALL
from bbb.core.rows import is_shared
from bbb.core.tree import Tree, names
from bbb.devices.mesh import is_spec, named_axes
from bbb.errors import InputError, ShapeError, fail

Layout = Mapping[tuple[Any, ...], tuple[tuple[int, ...], P]]
"""The layout of parameters: the shape and the `PartitionSpec` of each, by its path."""


def layout(
    partition: Tree,
    params: Tree,
    mesh: Mesh,
    taken: tuple[str, ...],
    members: int | None = None,
    spare: str | None = None,
) -> Layout:
    """Return the layout of the parameters, and so of any leaf whose path ends in that of a parameter of its shape.

    Args:
        partition: a tree of `PartitionSpec`s that is a prefix of `params`. `P()` replicates a parameter on every
            device; so does None, as a leaf or as the whole tree, except where `spare` applies.
        params: the parameters, of one member.
        mesh: a mesh with the axes that `partition` names.
        taken: axes of the mesh that `partition` may not name.
        members: the number of members whose parameters are stacked, if any; they are distributed along the axis
            "restarts" if the mesh has it.
        spare: an axis of the mesh along which to distribute large parameters whose spec is None.

    Raises:
        InputError: if a leaf of `partition` is not a `PartitionSpec`, or names an axis that is not available.
        ShapeError: if `partition` is not a prefix of the parameters, or does not divide them equally.
    """
    try:
        full = jax.tree.map(lambda spec, part: jax.tree.map(lambda _: spec, part), partition, params, is_leaf=is_spec)
        specs = jax.tree.leaves(full, is_leaf=is_spec)
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "Expected partition to be a PartitionSpec, or a tree of them that is a prefix of that of the parameters, "
            f"got {jax.tree.structure(partition, is_leaf=is_spec)} for {jax.tree.structure(params)}. "
            "Pass one for all parameters, for each layer, or for each leaf."
        ) from error
    lead: tuple[Any, ...] = () if members is None else ("restarts" if "restarts" in mesh.axis_names else None,)
    found = {}
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    for name, (path, leaf), spec in zip(names(params), paths, specs, strict=True):
        _check_spec(name, spec, jnp.shape(leaf), mesh, taken)
        shape = jnp.shape(leaf) if members is None else (members, *jnp.shape(leaf))
        own = (
            P(spare) if spec is None and spare and _is_worth_distributing(jnp.shape(leaf), mesh.shape[spare]) else spec
        )
        found[tuple(path)] = shape, P(*lead, *(own or ()))
    return found


def _is_worth_distributing(shape: tuple[int, ...], devices: int) -> bool:
    """Return whether to distribute a parameter along its first axis: its noise is drawn separately, in that order."""
    return devices > 1 and int(np.prod(shape)) > SMALL and shape[0] % devices == 0


def cuts(where: Layout, axis: str) -> tuple[bool, ...]:
    """Return which parameters, in their order, are distributed along an axis of the mesh."""
    return tuple(axis in named_axes(spec) for _, spec in where.values())


def _check_spec(name: str, spec: Any, shape: tuple[int, ...], mesh: Mesh, taken: tuple[str, ...]) -> None:
    """Check that `spec` is a `PartitionSpec` that fits the parameter `name` and the mesh."""
    if not is_spec(spec):
        do = 'Pass for example jax.sharding.PartitionSpec("model").'
        fail(InputError, "every leaf of partition to be a PartitionSpec", f"a {type(spec).__name__}", do)
    where = f"the partition of '{name}'"
    for axis in named_axes(spec):
        if axis not in mesh.axis_names or axis in taken:
            free = [axis for axis in mesh.axis_names if axis not in taken]
            got, do = repr(axis), "Name an axis of the mesh that is not used for anything else."
            fail(InputError, f"{where} to name axes among {free}", got, do)
    entries = tuple(spec or ())
    if len(entries) > len(shape):
        got, do = f"{spec} for shape {shape}", "Remove the surplus entries."
        fail(ShapeError, f"{where} to have no more entries than the parameter has axes", got, do)
    for size, entry in zip(shape, entries, strict=False):
        devices = int(np.prod([mesh.shape[axis] for axis in named_axes(P(entry))]))
        if size % devices:
            got, do = f"{size} along {entry!r} of {devices} devices", "Partition another axis, or use None."
            fail(ShapeError, f"{where} to divide axes into equal parts", got, do)


def put(mesh: Mesh, tree: Tree, spec: P) -> Tree:
    """Return a tree with every leaf distributed over the mesh by `spec`."""
    return jax.tree.map(partial(_put, NamedSharding(mesh, spec)), tree)


def row_specs(x: Tree, spec: P) -> Tree:
    """Return a tree like x of how its leaves are distributed: rows by `spec`, what they share not at all."""

    def leaf(value: Any) -> Any:
        return jax.tree.map(lambda _: P(), value) if is_shared(value) else spec

    return jax.tree.map(leaf, x, is_leaf=is_shared)


def put_rows(mesh: Mesh, x: Tree, spec: P) -> Tree:
    """Return rows of data distributed over the mesh by `spec`, and what they share on every device."""
    return jax.tree.map(lambda leaf, own: _put(NamedSharding(mesh, own), leaf), x, row_specs(x, spec))


def put_shares(mesh: Mesh, x: Tree, spec: P) -> Tree:
    """Return rows distributed as by `put_rows`, of which each process passes those of its own devices, in order."""
    return jax.tree.map(
        lambda leaf, own: jax.make_array_from_process_local_data(NamedSharding(mesh, own), leaf), x, row_specs(x, spec)
    )


def spread(mesh: Mesh, tree: Tree, where: Layout, otherwise: P) -> Tree:
    """Distribute a tree that contains parameters, such as a posterior or the state of an optimizer.

    A leaf whose path ends in that of a parameter, and which has its shape, is distributed like it; other leaves by the
    spec `otherwise`.
    """

    def leaf(path: tuple[Any, ...], value: Any) -> Any:
        found = (where.get(tuple(path[i:])) for i in range(len(path) + 1))
        spec = next((spec for shape, spec in filter(None, found) if shape == jnp.shape(value)), otherwise)
        return _put(NamedSharding(mesh, spec), value)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _put(sharding: NamedSharding, leaf: Tree) -> jax.Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    spans_hosts = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    if spans_hosts or sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)  # every process has all of it, so that no communication is needed
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def all_gather(leaf: jax.Array, mesh: Mesh, axis: str) -> jax.Array:
    """Gather an array whose first axis is distributed along `axis`, within a compiled program.

    The gradient is summed over the devices and stays distributed: each device gets the sum for the part that it holds.
    """

    @jax.custom_vjp
    def gather(leaf: jax.Array) -> jax.Array:
        return lax.with_sharding_constraint(leaf, NamedSharding(mesh, P()))

    def backward(_: None, slope: jax.Array) -> tuple[jax.Array]:
        return (lax.with_sharding_constraint(slope, NamedSharding(mesh, P(axis))),)

    gather.defvjp(lambda leaf: (gather(leaf), None), backward)
    return gather(leaf)


def laid_out(tree: Tree, mesh: Mesh, spec: P) -> Tree:
    """Redistribute leaves that are on the mesh by `spec`.

    This waits until they are computed, because devices that exchange data wait for each other, on a CPU for 40 s at
    most.
    """
    return _laid_out(jax.block_until_ready(tree), sharding=NamedSharding(mesh, spec))


@partial(jit, static_argnames=("sharding",))
def _laid_out(tree: Tree, *, sharding: NamedSharding) -> Tree:
    return jax.tree.map(lambda leaf: lax.with_sharding_constraint(leaf, sharding), tree)


def to_host(tree: Tree, mesh: Mesh) -> Tree:
    """Return the leaves as complete NumPy arrays, in every process."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if not all(array.is_fully_addressable or array.is_fully_replicated for array in arrays):
        tree = laid_out(tree, mesh, P())
    return jax.tree.map(np.asarray, tree)


def to_first_device(tree: Tree, mesh: Mesh, axes: tuple[str, ...]) -> Tree:
    """Move leaves to the first device of this process, except those distributed along other axes than `axes`."""

    def leaf(value: Any) -> Any:
        sharding = getattr(value, "sharding", None)
        stays = isinstance(sharding, NamedSharding) and any(name not in axes for name in named_axes(sharding.spec))
        return value if stays else jax.device_put(to_host(value, mesh))

    return jax.tree.map(leaf, tree)
