"""What is trained on: arrays of all rows, trees of them, or a stream of batches.

A network of one array of inputs, and rows that count more than once:

    >>> import bbb, jax, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(96, 3))
    >>> y = x[:, :1] + 0.1 * rng.normal(size=(96, 1))
    >>> network = bbb.nn.sequential(bbb.nn.linear(3, 8), bbb.nn.tanh, bbb.nn.linear(8, 1))
    >>> params = network.init(jax.random.key(0))
    >>> beliefs = {"prior": bbb.priors.Normal(), "likelihood": bbb.likelihoods.Gaussian(0.3, learn=True)}
    >>> model = bbb.bayesianize(network.apply, params, **beliefs)
    >>> how = {"steps": 6, "progress": False}
    >>> _, history = bbb.fit(jax.random.key(1), model, x, y, sample_weight=np.ones(96), **how)
    >>> history.loss.shape
    (6,)

Inputs that come apart, as a tree; a list of numbers is an array, a tuple of arrays a tree:

    >>> def apply(params, x):
    ...     tokens, mask = x
    ...     return network.apply(params, jax.numpy.where(mask, tokens, 0.0))
    >>> apart = bbb.bayesianize(apply, params, **beliefs)
    >>> pair = (x, x > -2)
    >>> apart, history = bbb.fit(jax.random.key(1), apart, pair, y, **how)
    >>> bbb.predict(jax.random.key(2), apart, pair, draws=20).f.mean.shape
    (96, 1)

What all rows share, such as the edges of a graph, over which rows meet:

    >>> edges = np.stack([np.arange(96), np.roll(np.arange(96), 1)])
    >>> def over_edges(params, x):
    ...     sent, received = x["edges"].value
    ...     neighbours = jax.numpy.zeros_like(x["nodes"]).at[received].add(x["nodes"][sent])
    ...     return network.apply(params, x["nodes"] + neighbours)
    >>> graph = bbb.bayesianize(over_edges, params, **beliefs)
    >>> nodes = {"nodes": x, "edges": bbb.networks.Shared(edges)}
    >>> graph, history = bbb.fit(jax.random.key(1), graph, nodes, y, **how)
    >>> bbb.predict(jax.random.key(2), graph, nodes, draws=20, rows="together").f.mean.shape
    (96, 1)

A stream, here a function of the pass, and predictions batch by batch:

    >>> def batches(epoch):
    ...     for some in np.array_split(np.random.default_rng(epoch).permutation(96), 3):
    ...         yield x[some], y[some]
    >>> streamed, history = bbb.fit(jax.random.key(1), model, data=batches, num_data=96, **how)
    >>> parts = bbb.predictive.predict_batches(jax.random.key(2), streamed, np.split(x, 4), draws=20)
    >>> [len(part.y.mean) for part in parts]
    [24, 24, 24, 24]

A stream with a state of its own, which a training goes on from at the very batch; and a mesh, over whose devices the
rows of each batch are divided. On a mesh of several hosts each process passes a stream of its share of every batch:

    >>> import tempfile
    >>> class Batches:
    ...     at = 0
    ...     def __iter__(self):
    ...         return self
    ...     def __next__(self):
    ...         some = np.random.default_rng(self.at).integers(0, 96, size=32)
    ...         self.at += 1
    ...         return x[some], y[some]
    ...     def get_state(self):
    ...         return {"at": self.at}
    ...     def set_state(self, state):
    ...         self.at = state["at"]
    >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("batch",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = bbb.train.Checkpointing(folder, resume=True)
    ...     for steps in (4, 6):
    ...         options = {"steps": steps, "progress": False, "checkpoints": saved, "placement": mesh}
    ...         _, history = bbb.fit(jax.random.key(1), model, data=Batches(), num_data=96, **options)
    >>> history.loss.shape
    (6,)
"""
