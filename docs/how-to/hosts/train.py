"""Train one model on several hosts: start this program once on each, with the host's number."""

import argparse

import jax

import bbb

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("address", help="of the first process, such as 10.0.0.1:1234")
options.add_argument("hosts", type=int, help="how many processes there are")
options.add_argument("me", type=int, help="the number of this one, from 0")
options.add_argument("folder", help="of the checkpoints: all processes share it")
options.add_argument("--steps", type=int, default=500)
given = options.parse_args()

jax.config.update("jax_cpu_collectives_implementation", "gloo")  # for CPUs
host = given.address, given.hosts, given.me
jax.distributed.initialize(*host, heartbeat_timeout_seconds=30)

task = bbb.tasks.regression(seed=0)
network = bbb.nn.sequential(bbb.nn.linear(1, 20), bbb.nn.relu, bbb.nn.linear(20, 1))
model = bbb.bayesianize(
    network.apply,
    network.init(jax.random.key(0)),
    prior=bbb.priors.Normal(0.0, 3.0),
    likelihood=bbb.likelihoods.Gaussian(std=0.5, learn=True),
)

mesh = jax.sharding.Mesh(jax.devices(), ("batch",))  # the devices of all hosts
model, history = bbb.fit(
    jax.random.key(1),
    model,
    task.x,
    task.y,
    steps=given.steps,
    placement=mesh,
    checkpoints=bbb.train.Checkpointing(given.folder, every=100, resume=True),
    progress=False,
)

mesh = jax.sharding.Mesh(jax.devices(), ("draws",))
band = bbb.predict(jax.random.key(2), model, task.x_test, mesh=mesh)
if given.me == 0:
    bbb.save(f"{given.folder}/model.safetensors", model)
    print(f"mean width of the band: {(2 * 3 * band.f.std).mean():.3f}")
