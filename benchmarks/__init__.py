"""The programs behind every claim about speed: peers and `bbb` in one run, on the same data and the same work.

    python -m benchmarks                run all programs, and write benchmarks/RESULTS.md
    python -m benchmarks.regression     the demo: training, and 10,000 draws × 300 rows
    python -m benchmarks.mlp            784-400-400-10: a training step, and 200 draws × 1,000 rows
    python -m benchmarks.larger         ResNet-20 and a vision transformer: a training step, and its memory
    python -m benchmarks.scaling        time and memory against draws, rows, weights and devices
    python -m benchmarks.gradients      the variance of each forward's gradient, and its effect on training
    python -m benchmarks.noise          the cost of a standard normal number in each library
    python -m benchmarks.sampling       the error of 10,000 independent, antithetic and Sobol draws
    python -m benchmarks.devices        one device against two: draws, and data-parallel training
    python -m benchmarks.big            the memory of 10,000 draws × 10⁶ rows, and of training on 10⁷ rows of a file
    python -m benchmarks.uci            the UCI regression sets: log-likelihood, RMSE, coverage
    python -m benchmarks.tabular        the estimator's defaults and their peers on ten tables
    python -m benchmarks.abstention     digits against letters: AUROC, and the error of the most certain answers
    python -m benchmarks.active         active learning on UCI sets against random rows
    python -m benchmarks.bandit         the mushroom bandit: Thompson samples against epsilon-greedy
    python -m benchmarks.continual      ten permutations of the digits, learned one after the other
    python -m benchmarks.images         MNIST and Fashion-MNIST: error, log score, calibration, pruning

A contender is one way to do one piece of work (`contender.py`). Each runs in a process of its own (`measure.py`), in
rounds of one run of each (`race.py`), and their results are compared as well as their times.
Peers come with `pip install '.[benchmarks]'`, and Bayesian-Torch, whose layers need only torch of all that it asks for,
with `pip install --no-deps bayesian-torch`. A peer that is not installed is named and left out.
"""
