"""Meshes of devices: of a CPU's, what a user's may be, and how arrays are laid out over one, on one host or on several.

On several hosts, every process makes the same calls with the same arguments and gets the same answers. An array that
each of them holds is laid out without a message between them; one that is spread over them is gathered to be read.
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

Layout = Mapping[tuple[Any, ...], tuple[tuple[int, ...], P]]
"""Where parameters lie: for the path of each, its shape and its `PartitionSpec`."""


# Devices of a CPU


MOST_CPUS = 64
"""How many CPU devices one may have on any machine: beyond its cores, they take turns."""


def most_cpus() -> int:
    """Say how many CPU devices `cpus` makes at most: as many as there are cores, or `MOST_CPUS` if those are fewer."""
    return max(MOST_CPUS, _spread.cores())


def cpus(count: int, axis: str) -> Mesh:
    """Make JAX run on so many CPU devices, from here to the end of the process; give a mesh of them along one axis.

    A process in which JAX has begun keeps the devices it has, of which the first are taken.

    Raises:
        InputError: if JAX has begun, and has fewer, or others.
    """
    try:
        jax.config.update("jax_num_cpu_devices", count)  # it wins over XLA_FLAGS
    except RuntimeError:  # JAX has begun: what it has may do
        pass
    else:
        jax.config.update("jax_platforms", "cpu")
    found = jax.local_devices()
    if found[0].platform != "cpu" or len(found) < count:
        expected = f"at least {count} CPU devices in a process in which JAX has begun"
        got, do = f"{len(found)} of platform {found[0].platform}", "Ask in a process of its own, before any other work."
        _check.fail(_check.InputError, expected, got, do)
    return Mesh(np.array(found[:count]), (axis,))


# What a user's mesh may be


def of_axes(mesh: Any, axes: tuple[str, ...], partition: Tree = None) -> Mesh:
    """Check a mesh, and give one of the same devices that has all of `axes`: those it lacks are of size 1.

    Args:
        mesh: the user's.
        axes: the names that have a meaning here.
        partition: a tree of `PartitionSpec`s, whose names may be axes too.

    Raises:
        InputError: if it is no mesh, has another axis, or no device of this process and of JAX's default backend.
    """
    check_mesh(mesh, axes[0])
    named = {name for spec in jax.tree.leaves(partition, is_leaf=_is_spec) for name in _names(spec)}
    stray = [name for name in mesh.axis_names if name not in {*axes, *named}]
    if stray:
        known = " or ".join(f'"{name}"' for name in axes)
        do = "Rename the axis, or name it in partition."
        _check.fail(_check.InputError, f"a mesh of axes {known}, or of names in partition", f"axis {stray[0]!r}", do)
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
        got, do = f"none of process {jax.process_index()}", "Make it of jax.devices(), or call from others alone."
        _check.fail(_check.InputError, "a mesh with a device of every process that calls", got, do)


def divides(what: str, count: int, mesh: Mesh, axis: str, do: str) -> None:
    """Refuse a number that the size of an axis does not divide."""
    size = mesh.shape[axis]
    if count % size:
        _check.fail(
            _check.InputError, f'{what} to be a multiple of the {size} devices of axis "{axis}"', f"{count}", do
        )


def in_line(mesh: Mesh, axis: str) -> Mesh:
    """Give a mesh of the same devices along one axis."""
    return Mesh(mesh.devices.reshape(-1), (axis,))


def layout(
    partition: Tree,
    params: Tree,
    mesh: Mesh,
    taken: tuple[str, ...],
    members: int | None = None,
    spare: str | None = None,
) -> Layout:
    """Say where each parameter lies, and whatever has its path at the end of its own, and its shape.

    Args:
        partition: a tree of `PartitionSpec`s that is a prefix of `params`; `P()` is all of it on every device, and so
            is None, in it or instead of it, but for what `spare` cuts.
        params: the parameters, of one member.
        mesh: of the axes that `partition` names.
        taken: axes of the mesh that `partition` may not name.
        members: how many members' parameters are stacked, if any; they lie along "restarts" if the mesh has that.
        spare: an axis of the mesh to cut large parameters along, of which `partition` says None.

    Raises:
        InputError, ShapeError: if `partition` does not fit the parameters, or the mesh.
    """
    try:
        full = jax.tree.map(lambda spec, part: jax.tree.map(lambda _: spec, part), partition, params, is_leaf=_is_spec)
        specs = jax.tree.leaves(full, is_leaf=_is_spec)
    except (ValueError, TypeError) as error:
        raise _check.ShapeError(
            "Expected partition to be a PartitionSpec or a tree of them that is a prefix of the parameters', "
            f"got {jax.tree.structure(partition, is_leaf=_is_spec)} for {jax.tree.structure(params)}. "
            "Pass one for all parameters, for each layer, or for each leaf."
        ) from error
    lead: tuple[Any, ...] = () if members is None else ("restarts" if "restarts" in mesh.axis_names else None,)
    found = {}
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    for name, (path, leaf), spec in zip(names(params), paths, specs, strict=True):
        _check_spec(name, spec, jnp.shape(leaf), mesh, taken)
        shape = jnp.shape(leaf) if members is None else (members, *jnp.shape(leaf))
        own = P(spare) if spec is None and spare and _is_worth_cutting(jnp.shape(leaf), mesh.shape[spare]) else spec
        found[tuple(path)] = shape, P(*lead, *(own or ()))
    return found


def _is_worth_cutting(shape: tuple[int, ...], devices: int) -> bool:
    """Tell whether to cut a parameter along its first axis: one with a draw of its own, which is made in that order."""
    return devices > 1 and int(np.prod(shape)) > SMALL and shape[0] % devices == 0


def cuts(where: Layout, axis: str) -> tuple[bool, ...]:
    """Tell which parameters, in their order, are cut along an axis."""
    return tuple(axis in _names(spec) for _, spec in where.values())


def _check_spec(name: str, spec: Any, shape: tuple[int, ...], mesh: Mesh, taken: tuple[str, ...]) -> None:
    """Refuse what is no `PartitionSpec`, or one that does not fit the parameter `name`, or the mesh."""
    if not _is_spec(spec):
        do = 'Pass for example jax.sharding.PartitionSpec("model").'
        _check.fail(_check.InputError, "every leaf of partition to be a PartitionSpec", f"a {type(spec).__name__}", do)
    where = f"the partition of '{name}'"
    for axis in _names(spec):
        if axis not in mesh.axis_names or axis in taken:
            free = [axis for axis in mesh.axis_names if axis not in taken]
            got, do = repr(axis), "Name an axis of the mesh that spreads nothing else."
            _check.fail(_check.InputError, f"{where} to name axes among {free}", got, do)
    entries = tuple(spec or ())
    if len(entries) > len(shape):
        got, do = f"{spec} for shape {shape}", "Leave out the rest."
        _check.fail(_check.ShapeError, f"{where} to have no more entries than the parameter has axes", got, do)
    for size, entry in zip(shape, entries, strict=False):
        devices = int(np.prod([mesh.shape[axis] for axis in _names(P(entry))]))
        if size % devices:
            got, do = f"{size} along {entry!r} of {devices} devices", "Cut along another axis, or None."
            _check.fail(_check.ShapeError, f"{where} to cut axes into equal parts", got, do)


def _is_spec(value: Any) -> bool:
    return value is None or isinstance(value, P)


def _names(spec: Any) -> Iterator[str]:
    """Yield the names of axes in a `PartitionSpec`; of anything else, which is refused elsewhere, none."""
    for entry in spec if isinstance(spec, P) else ():
        yield from entry if isinstance(entry, tuple) else () if entry is None else (entry,)


# Laying out and gathering


def is_local(mesh: Mesh) -> bool:
    """Tell whether all devices of a mesh are this process's."""
    return all(device.process_index == jax.process_index() for device in mesh.devices.flat)


def put(mesh: Mesh, tree: Tree, spec: P) -> Tree:
    """Lay out every leaf as `spec` says."""
    return jax.tree.map(partial(_put, NamedSharding(mesh, spec)), tree)


def spread(mesh: Mesh, tree: Tree, where: Layout, otherwise: P) -> Tree:
    """Lay out a tree that has parameters in it, such as a posterior or an optimiser's state.

    A leaf whose path ends in a parameter's, and which has its shape, lies where that does; others as `otherwise` says.
    """

    def leaf(path: tuple[Any, ...], value: Any) -> Any:
        found = (where.get(tuple(path[i:])) for i in range(len(path) + 1))
        spec = next((spec for shape, spec in filter(None, found) if shape == jnp.shape(value)), otherwise)
        return _put(NamedSharding(mesh, spec), value)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _put(sharding: NamedSharding, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    spans_hosts = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    if spans_hosts or sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)  # each process has all of it: nothing has to be sent
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def whole(leaf: jax.Array, mesh: Mesh, axis: str) -> jax.Array:
    """Gather an array that is cut by its first axis along `axis`, within a program.

    Its gradient is summed over the devices and stays cut: each device gets the sum of the part that it keeps.
    """

    @jax.custom_vjp
    def gather(leaf: jax.Array) -> jax.Array:
        return lax.with_sharding_constraint(leaf, NamedSharding(mesh, P()))

    def backward(_: None, slope: jax.Array) -> tuple[jax.Array]:
        return (lax.with_sharding_constraint(slope, NamedSharding(mesh, P(axis))),)

    gather.defvjp(lambda leaf: (gather(leaf), None), backward)
    return gather(leaf)


def laid_out(tree: Tree, mesh: Mesh, spec: P) -> Tree:
    """Lay out leaves that are on the mesh in another way.

    They are waited for first: devices that exchange data wait for each other, on a CPU not for longer than 40 s.
    """
    return _laid_out(jax.block_until_ready(tree), sharding=NamedSharding(mesh, spec))


@partial(jit, static_argnames=("sharding",))
def _laid_out(tree: Tree, *, sharding: NamedSharding) -> Tree:
    return jax.tree.map(lambda leaf: lax.with_sharding_constraint(leaf, sharding), tree)


def fetched(tree: Tree, mesh: Mesh) -> Tree:
    """Give the leaves as NumPy arrays, whole, in every process."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if not all(array.is_fully_addressable or array.is_fully_replicated for array in arrays):
        tree = laid_out(tree, mesh, P())
    return jax.tree.map(np.asarray, tree)


def home(tree: Tree, mesh: Mesh, axes: tuple[str, ...]) -> Tree:
    """Bring leaves to the first device of this process; those that are cut along other axes than `axes` stay."""

    def leaf(value: Any) -> Any:
        sharding = getattr(value, "sharding", None)
        stays = isinstance(sharding, NamedSharding) and any(name not in axes for name in _names(sharding.spec))
        return value if stays else jax.device_put(fetched(value, mesh))

    return jax.tree.map(leaf, tree)


# Several processes


def said(numbers: Sequence[int], mesh: Mesh | None) -> np.ndarray:
    """Tell every process some whole numbers: those of each, (processes, numbers), in the order of the mesh.

    Where there is one process, nothing is sent.
    """
    own = np.array([numbers], np.int32)
    if mesh is None or is_local(mesh):
        return own
    line = in_line(mesh, "all")
    shape, spread_out = (line.size, own.shape[1]), NamedSharding(line, P("all"))
    each = fetched(jax.make_array_from_callback(shape, spread_out, lambda _: own), line)
    return each[[i for i, _ in _first_devices(mesh)]]


def _first_devices(mesh: Mesh) -> list[tuple[int, int]]:
    """Give the place of the first device of each process in the mesh, and the process."""
    processes = [device.process_index for device in mesh.devices.flat]
    return [(processes.index(process), process) for process in dict.fromkeys(processes)]


@contextmanager
def together(mesh: Mesh | None) -> Iterator[None]:
    """Do what may fail in one process, and let none go on where one failed: it would wait for that one for ever.

    Raises:
        HostError: in the processes that did not fail.
    """
    try:
        yield
    except Exception:
        said([1], mesh)
        raise
    failed = said([0], mesh)[:, 0] > 0
    if failed.any():
        _, process = _first_devices(mesh)[int(np.argmax(failed))]  # type: ignore[arg-type]
        do = "What that process says tells why."
        _check.fail(_check.HostError, "every process to go on", f"an error in process {process}", do)


@contextmanager
def joined(mesh: Mesh | None) -> Iterator[None]:
    """Name what JAX raises where a process is lost that others wait for.

    Raises:
        HostError: for JAX's error, if the mesh is of several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if mesh is None or is_local(mesh):
            raise
        first = str(error).strip().split("\n", maxsplit=1)[0]
        raise _check.HostError(
            f"Expected all {len(_first_devices(mesh))} processes to work together to the end, got from JAX: {first}. "
            "If one was lost, start all of them again; training goes on from its checkpoints with resume=True."
        ) from error
