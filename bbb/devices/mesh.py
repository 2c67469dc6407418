"""Meshes of devices, the layout of arrays over them, and the cooperation of several hosts.

On several hosts, every process makes the same calls with the same arguments and gets the same results. An array that
every process holds is distributed without communication; a distributed array is gathered to be read.
"""

import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bbb.core import process
from bbb.core.tree import Tree
from bbb.errors import InputError, fail

MAX_CPUS = 64
"""The number of CPU devices that is allowed on any machine; more devices than cores share the cores."""


_log = logging.getLogger("bbb")


def max_cpus() -> int:
    """Return the largest number of CPU devices for `cpus`: the number of cores, but at least `MAX_CPUS`."""
    return max(MAX_CPUS, process.cores())


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
        fail(InputError, expected, got, do)
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
        fail(InputError, f"a mesh with axes {known}, or names in partition", f"axis {stray[0]!r}", do)
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
        fail(InputError, "mesh to be a jax.sharding.Mesh", f"a {type(mesh).__name__}", do)


def _check_devices(mesh: Mesh) -> None:
    platform = mesh.devices.flat[0].platform
    if platform != jax.local_devices()[0].platform:
        do = "Choose the backend with JAX_PLATFORMS, or jax.config.update('jax_platforms', ...)."
        got = f"{platform} devices"
        fail(InputError, f"a mesh of {jax.local_devices()[0].platform} devices, JAX's default", got, do)
    if not any(device.process_index == jax.process_index() for device in mesh.devices.flat):
        got = f"none of process {jax.process_index()}"
        do = "Make the mesh of jax.devices(), or make the call only in the processes whose devices it has."
        fail(InputError, "a mesh with a device of every calling process", got, do)


def divides(what: str, count: int, mesh: Mesh, axis: str, do: str) -> None:
    """Check that a number is a multiple of the size of an axis of the mesh.

    Raises:
        InputError: if it is not; `what` and `do` are parts of the message.
    """
    size = mesh.shape[axis]
    if count % size:
        fail(InputError, f'{what} to be a multiple of the {size} devices of axis "{axis}"', f"{count}", do)


def shares_a_cpu(mesh: Mesh) -> bool:
    """Return whether the devices of a mesh are several of one CPU, so that they share its cores."""
    return mesh.size > 1 and is_local(mesh) and mesh.devices.flat[0].platform == "cpu"


def log_shared_cores(mesh: Mesh) -> None:
    """Log a warning if the devices of a mesh share the cores of one CPU: a single device uses them all."""
    if shares_a_cpu(mesh):
        _log.warning(
            "The %d devices of the mesh share the %d cores of one CPU, all of which a single device uses: such a mesh "
            "tries out a program for several devices, and is seldom faster: leave it out to train on one.",
            mesh.size,
            process.cores(),
        )


def in_line(mesh: Mesh, axis: str) -> Mesh:
    """Return a mesh of the same devices along one axis."""
    return Mesh(mesh.devices.reshape(-1), (axis,))


def is_local(mesh: Mesh) -> bool:
    """Return whether all devices of a mesh belong to this process."""
    return all(device.process_index == jax.process_index() for device in mesh.devices.flat)


def is_spec(value: Any) -> bool:
    """Return whether a value is a `PartitionSpec`, or None, which stands for an empty one."""
    return value is None or isinstance(value, P)


def named_axes(spec: Any) -> Iterator[str]:
    """Yield the names of axes in a `PartitionSpec`; nothing for other values, which `_check_spec` reports."""
    for entry in spec if isinstance(spec, P) else ():
        yield from entry if isinstance(entry, tuple) else () if entry is None else (entry,)
