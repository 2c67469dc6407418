"""Training on a mesh of devices: where everything lies, and what is gathered or cut within a step.

The step itself is the same on one device and on many: the functions that it calls from here return what they are given
where there is no mesh.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bbb.core.rows import map_rows
from bbb.core.tree import Tree
from bbb.devices import layout as layout_module
from bbb.devices import mesh as mesh_module
from bbb.forwards.sampling import WeightSampling
from bbb.forwards.select import Forward
from bbb.model import BNN
from bbb.posteriors.mean_field import MeanField
from bbb.posteriors.protocol import Posterior
from bbb.train.options import Placement
from bbb.train.steps.state import Recipe, TrainInputs, TrainState

AXES = ("restarts", "batch")
"""The axes of a mesh to train on."""


class MeshLayout(NamedTuple):
    """A mesh to train on, of axes "restarts" and "batch", and where parameters lie on it."""

    mesh: Mesh
    parameters: layout_module.Layout


def axes_of(placement: Placement) -> Mesh:
    """Return the mesh of a placement with axes "restarts" and "batch".

    Raises:
        InputError: for a mesh of other axes or devices.
    """
    return mesh_module.of_axes(placement.mesh, AXES, placement.partition)


def mesh_layout(placement: Placement | None, model: BNN, recipe: Recipe, rows: int, restarts: int) -> MeshLayout | None:
    """Check a placement against what is trained, and return where parameters lie on its mesh; None stays None.

    Raises:
        InputError, ShapeError: for a mesh of other axes, or of a size that does not divide the rows or the members; or
            a partition that does not fit.
    """
    if placement is None:
        return None
    mesh = axes_of(placement)
    mesh_module.log_shared_cores(mesh)
    mesh_module.divides("restarts", restarts, mesh, "restarts", "Train more members, or on a mesh without that axis.")
    if recipe.num_data is not None:
        mesh_module.divides("the rows of the first batch", rows, mesh, "batch", "Make batches of as many.")
    elif recipe.batch_size is None:
        mesh_module.divides("the rows", rows, mesh, "batch", "Pass a batch_size that is, or leave out some rows.")
    else:
        mesh_module.divides("batch_size", recipe.batch_size, mesh, "batch", "Pass one that is.")
    members = restarts if recipe.members else None
    mean = model.posterior.params
    return MeshLayout(mesh, layout_module.layout(placement.partition, mean, mesh, AXES, members, spare="batch"))


def sharded_inputs(layout: MeshLayout, inputs: TrainInputs, recipe: Recipe) -> TrainInputs:
    """Lay inputs out: members along "restarts", and of a full batch the rows along "batch".

    Of smaller batches, rows are picked anywhere: every device has all of them. Batches of a stream come laid out.
    """
    mesh, members = layout.mesh, _over_members(recipe)
    x, y, sample_weight = inputs.x, inputs.y, inputs.sample_weight
    if recipe.num_data is None:
        data = P("batch") if recipe.batch_size is None else P()
        x, y, sample_weight = layout_module.put_rows(mesh, (x, y, sample_weight), data)
    model = layout_module.spread(mesh, inputs.model, layout.parameters, members)
    key, kl_weight = layout_module.put(mesh, inputs.key, members), layout_module.put(mesh, inputs.kl_weight, P())
    return TrainInputs(key, model, x, y, kl_weight, sample_weight, inputs.stream)


def sharded_state(layout: MeshLayout, state: TrainState, recipe: Recipe) -> TrainState:
    """Lay a state out: what the optimiser keeps of a parameter lies where that does."""
    step, healthy = layout_module.put(layout.mesh, (state.step, state.healthy), P())
    member = layout_module.spread(layout.mesh, state.member, layout.parameters, _over_members(recipe))
    return TrainState(step, member, healthy)


def sharded_recipe(layout: MeshLayout, inputs: TrainInputs, recipe: Recipe, state: TrainState) -> Recipe:
    """Return the recipe of a mesh on which the state lies already."""
    shardings = tuple(leaf.sharding for leaf in jax.tree.leaves(state))
    cuts, structure = layout_module.cuts(layout.parameters, "batch"), jax.tree.structure(inputs.model.posterior.params)
    forward = _Gathering(recipe.forward, layout.mesh, structure, cuts) if any(cuts) else recipe.forward
    return recipe._replace(mesh=layout.mesh, layout=shardings, forward=forward)


def _over_members(recipe: Recipe) -> P:
    return P("restarts") if recipe.members else P()


@dataclasses.dataclass(frozen=True)
class _Gathering:
    """A forward whose large weights are cut along "batch" until the network meets them.

    Each device draws the noise of its part, makes weights of it, and gathers those of the others. Without this every
    device would repeat the noise, the KL and the optimiser's work for all parameters.
    """

    forward: Forward
    mesh: Mesh
    structure: Any
    cuts: tuple[bool, ...]

    @property
    def apply(self) -> Any:
        """The network."""
        return self.forward.apply  # type: ignore[attr-defined]

    def noise(self, key: jax.Array, posterior: Posterior, x: Any) -> Tree:
        """Draw what the forward draws."""
        return self.forward.noise(key, posterior, x)

    def evaluate(self, noise: Tree, posterior: Posterior, x: Any) -> Any:
        """Run the network: one draw of the weights is gathered, or where rows have their own, what they are made of."""
        if isinstance(self.forward, WeightSampling):
            return self.apply(self._whole(posterior.weights(noise)), x)
        if isinstance(posterior, MeanField):
            posterior = MeanField(self._whole(posterior.mean), self._whole(posterior.log_std))
        return self.forward.evaluate(noise, posterior, x)

    def __call__(self, key: jax.Array, posterior: Posterior, x: Any) -> Any:
        """Compute the outputs of one random draw."""
        return self.evaluate(self.noise(key, posterior, x), posterior, x)

    def _whole(self, params: Tree) -> Tree:
        """Gather what is cut; None, in the place of a point estimate's standard deviations, stays."""

        def leaf(cut: bool, w: jax.Array | None) -> jax.Array | None:
            return layout_module.all_gather(w, self.mesh, "batch") if cut and w is not None else w

        return jax.tree.map(leaf, jax.tree.unflatten(self.structure, self.cuts), params)


def rows_over_devices(recipe: Recipe, batch: Tree) -> Tree:
    """Return a batch of which each device has its rows, so that sums over rows are sums over devices."""
    if recipe.mesh is None:
        return batch
    by_rows = NamedSharding(recipe.mesh, P("batch"))
    return map_rows(lambda leaf: lax.with_sharding_constraint(leaf, by_rows), batch)


def on_every_device(recipe: Recipe, array: Tree) -> Tree:
    """Have every device hold all of an array."""
    if recipe.mesh is None:
        return array
    return lax.with_sharding_constraint(array, NamedSharding(recipe.mesh, P()))


def as_it_came(recipe: Recipe, state: TrainState) -> TrainState:
    """Lay a state out as it came into the program, so that one program serves all chunks."""
    if recipe.mesh is None:
        return state
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, map(lax.with_sharding_constraint, leaves, recipe.layout))


def readable(state: TrainState, recipe: Recipe) -> TrainState:
    """Return a state that every process can read."""
    if recipe.mesh is None or mesh_module.is_local(recipe.mesh):
        return state
    return layout_module.laid_out(state, recipe.mesh, P())


def model_home(model: BNN, recipe: Recipe) -> BNN:
    """Bring a model to the first device, except for parameters that are cut into parts."""
    return model if recipe.mesh is None else layout_module.to_first_device(model, recipe.mesh, AXES)
