"""Meshes of devices, the layout of arrays over them, and the cooperation of several hosts.

On several hosts, every process makes the same calls with the same arguments and gets the same results. An array that
every process holds is distributed without communication; a distributed array is gathered to be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bbb import _check, _spread
from bbb._compile import jit
from bbb._noise import SMALL
from bbb._tree import Tree, names

# Meshes


MAX_CPUS = 64
"""The number of CPU devices that is allowed on any machine; more devices than cores share the cores."""


def max_cpus() -> int:
    """Return the largest number of CPU devices for `cpus`: the number of cores, but at least `MAX_CPUS`."""
    return max(MAX_CPUS, _spread.cores())


def cpus(count: int, axis: str) -> Mesh:
    """Make JAX use `count` CPU devices until the end of the process, and return a mesh of them along one axis.

    If JAX has already started, its devices cannot be changed, and the first `count` of them are used.

    Raises:
        InputError: if JAX has already started with fewer devices, or on another platform.
    """
    try:
        jax.config.update("jax_num_cpu_devices", count)  # it wins over XLA_FLAGS
    except RuntimeError:  # JAX has started; its devices may be enough
        pass
    else:
        jax.config.update("jax_platforms", "cpu")
    found = jax.local_devices()
    if found[0].platform != "cpu" or len(found) < count:
        expected = f"at least {count} CPU devices in a process in which JAX has started"
        got = f"{len(found)} of platform {found[0].platform}"
        do = "Request the devices in a new process, before any other work."
        _check.fail(_check.InputError, expected, got, do)
    return Mesh(np.array(found[:count]), (axis,))


def of_axes(mesh: Any, axes: tuple[str, ...], partition: Tree = None) -> Mesh:
    """Check a mesh, and return a mesh of the same devices that has all of `axes`, with size 1 for missing ones.

    Args:
        mesh: the user's mesh.
        axes: the names of the axes that are used.
        partition: a tree of `PartitionSpec`s, whose names are allowed as axes too.

    Raises:
        InputError: if it is not a mesh, has another axis, has no device of this process, or has devices other than
            those of JAX's default backend.
    """
    check_mesh(mesh, axes[0])
    named = {name for spec in jax.tree.leaves(partition, is_leaf=is_spec) for name in named_axes(spec)}
    stray = [name for name in mesh.axis_names if name not in {*axes, *named}]
    if stray:
        known = " or ".join(f'"{name}"' for name in axes)
        do = "Rename the axis, or name it in partition."
        _check.fail(_check.InputError, f"a mesh with axes {known}, or names in partition", f"axis {stray[0]!r}", do)
    _check_devices(mesh)
    missing = tuple(name for name in axes if name not in mesh.axis_names)
    return Mesh(mesh.devices.reshape((1,) * len(missing) + mesh.devices.shape), (*missing, *mesh.axis_names))


def check_mesh(mesh: Any, axis: str) -> None:
    """Raise an error for what is not a mesh, which shows how to make one along `axis`.

    Raises:
        InputError: if it is not a `jax.sharding.Mesh`.
    """
    if not isinstance(mesh, Mesh):
        do = f'Pass for example jax.make_mesh((jax.device_count(),), ("{axis}",)).'
        _check.fail(_check.InputError, "mesh to be a jax.sharding.Mesh", f"a {type(mesh).__name__}", do)


def _check_devices(mesh: Mesh) -> None:
    platform = mesh.devices.flat[0].platform
    if platform != jax.local_devices()[0].platform:
        do = "Choose the backend with JAX_PLATFORMS, or jax.config.update('jax_platforms', ...)."
        got = f"{platform} devices"
        _check.fail(_check.InputError, f"a mesh of {jax.local_devices()[0].platform} devices, JAX's default", got, do)
    if not any(device.process_index == jax.process_index() for device in mesh.devices.flat):
        got = f"none of process {jax.process_index()}"
        do = "Make the mesh of jax.devices(), or make the call only in the processes whose devices it has."
        _check.fail(_check.InputError, "a mesh with a device of every calling process", got, do)


def divides(what: str, count: int, mesh: Mesh, axis: str, do: str) -> None:
    """Check that a number is a multiple of the size of an axis of the mesh.

    Raises:
        InputError: if it is not; `what` and `do` are parts of the message.
    """
    size = mesh.shape[axis]
    if count % size:
        _check.fail(
            _check.InputError, f'{what} to be a multiple of the {size} devices of axis "{axis}"', f"{count}", do
        )


def in_line(mesh: Mesh, axis: str) -> Mesh:
    """Return a mesh of the same devices along one axis."""
    return Mesh(mesh.devices.reshape(-1), (axis,))


def is_local(mesh: Mesh) -> bool:
    """Return whether all devices of a mesh belong to this process."""
    return all(device.process_index == jax.process_index() for device in mesh.devices.flat)


def is_spec(value: Any) -> bool:
    return value is None or isinstance(value, P)


def named_axes(spec: Any) -> Iterator[str]:
    """Yield the names of axes in a `PartitionSpec`; nothing for other values, which `_check_spec` reports."""
    for entry in spec if isinstance(spec, P) else ():
        yield from entry if isinstance(entry, tuple) else () if entry is None else (entry,)


# The layout of arrays


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
        raise _check.ShapeError(
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
        _check.fail(_check.InputError, "every leaf of partition to be a PartitionSpec", f"a {type(spec).__name__}", do)
    where = f"the partition of '{name}'"
    for axis in named_axes(spec):
        if axis not in mesh.axis_names or axis in taken:
            free = [axis for axis in mesh.axis_names if axis not in taken]
            got, do = repr(axis), "Name an axis of the mesh that is not used for anything else."
            _check.fail(_check.InputError, f"{where} to name axes among {free}", got, do)
    entries = tuple(spec or ())
    if len(entries) > len(shape):
        got, do = f"{spec} for shape {shape}", "Remove the surplus entries."
        _check.fail(_check.ShapeError, f"{where} to have no more entries than the parameter has axes", got, do)
    for size, entry in zip(shape, entries, strict=False):
        devices = int(np.prod([mesh.shape[axis] for axis in named_axes(P(entry))]))
        if size % devices:
            got, do = f"{size} along {entry!r} of {devices} devices", "Partition another axis, or use None."
            _check.fail(_check.ShapeError, f"{where} to divide axes into equal parts", got, do)


def put(mesh: Mesh, tree: Tree, spec: P) -> Tree:
    """Return a tree with every leaf distributed over the mesh by `spec`."""
    return jax.tree.map(partial(_put, NamedSharding(mesh, spec)), tree)


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


def whole(leaf: jax.Array, mesh: Mesh, axis: str) -> jax.Array:
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


def fetched(tree: Tree, mesh: Mesh) -> Tree:
    """Return the leaves as complete NumPy arrays, in every process."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if not all(array.is_fully_addressable or array.is_fully_replicated for array in arrays):
        tree = laid_out(tree, mesh, P())
    return jax.tree.map(np.asarray, tree)


def home(tree: Tree, mesh: Mesh, axes: tuple[str, ...]) -> Tree:
    """Move leaves to the first device of this process, except those distributed along other axes than `axes`."""

    def leaf(value: Any) -> Any:
        sharding = getattr(value, "sharding", None)
        stays = isinstance(sharding, NamedSharding) and any(name not in axes for name in named_axes(sharding.spec))
        return value if stays else jax.device_put(fetched(value, mesh))

    return jax.tree.map(leaf, tree)


# Several processes


def said(numbers: Sequence[int], mesh: Mesh | None) -> np.ndarray:
    """Exchange whole numbers between processes, and return those of each, (processes, numbers), in mesh order.

    With a single process there is no communication.
    """
    own = np.array([numbers], np.int32)
    if mesh is None or is_local(mesh):
        return own
    line = in_line(mesh, "all")
    shape, spread_out = (line.size, own.shape[1]), NamedSharding(line, P("all"))
    each = fetched(jax.make_array_from_callback(shape, spread_out, lambda _: own), line)
    return each[[i for i, _ in _first_devices(mesh)]]


def _first_devices(mesh: Mesh) -> list[tuple[int, int]]:
    """Return the position of the first device of each process in the mesh, and the process."""
    processes = [device.process_index for device in mesh.devices.flat]
    return [(processes.index(process), process) for process in dict.fromkeys(processes)]


@contextmanager
def together(mesh: Mesh | None) -> Iterator[None]:
    """Run a block that may fail in one process, and stop the others if it does: they would wait for it forever.

    Raises:
        HostError: in the processes in which it did not fail.
    """
    try:
        yield
    except Exception:
        said([1], mesh)
        raise
    failed = said([0], mesh)[:, 0] > 0
    if failed.any():
        _, process = _first_devices(mesh)[int(np.argmax(failed))]  # type: ignore[arg-type]
        do = "See the error message of that process."
        _check.fail(_check.HostError, "every process to continue", f"an error in process {process}", do)


@contextmanager
def joined(mesh: Mesh | None) -> Iterator[None]:
    """Turn the error that JAX raises when another process is lost into one that says what to do.

    Raises:
        HostError: in place of JAX's error, if the mesh has devices of several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if mesh is None or is_local(mesh):
            raise
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise _check.HostError(
            f"Expected all {len(_first_devices(mesh))} processes to run to the end, got from JAX: {first}. "
            "If one was lost, start all of them again; training continues from its checkpoints with resume=True."
        ) from error
