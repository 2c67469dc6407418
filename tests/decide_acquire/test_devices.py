"""Scores and batches over several devices: those of one, whatever the mesh."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests import ROOT

SCRIPT = """
import sys
import jax, numpy as np
from jax.sharding import Mesh
from bbb.decide import acquisition
from tests.decide_acquire.models import KEY, X, classes, model_of
devices = np.array(jax.devices())
meshes = {"draws": Mesh(devices, ("draws",)), "both": Mesh(devices.reshape(2, 2), ("rows", "draws"))}
model, labels, found = model_of(), classes(), {}
for name, mesh in {"none": None, **meshes}.items():
    ask = {"draws": 40, "mesh": mesh}
    found |= {
        f"{name}/variance": acquisition.variance(KEY, model, X, **ask),
        f"{name}/improvement": acquisition.expected_improvement(KEY, model, X, 0.2, **ask),
        f"{name}/information": acquisition.bald(KEY, labels, X, **ask),
        f"{name}/samples": np.asarray(acquisition.thompson(KEY, model, X, 4, mesh=mesh)),
        f"{name}/batch": acquisition.choose_batch(KEY, labels, X, 3, **ask).rows,
        f"{name}/gains": acquisition.choose_batch(KEY, model, X, 3, **ask).scores,
    }
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "found.npz"
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("mesh", ["draws", "both"])
def test_a_mesh_changes_no_answer(found, mesh):
    names = [name.split("/")[1] for name in found if name.startswith("none/")]
    assert len(names) == 6
    for name in names:
        np.testing.assert_allclose(found[f"{mesh}/{name}"], found[f"none/{name}"], rtol=1e-5, atol=1e-7, err_msg=name)
