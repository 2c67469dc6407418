"""Every public callable, and the cases of bad input of every folder."""

import importlib
import inspect

import bbb
from tests import ROOT

MODULES_OF_CASES = [
    importlib.import_module(f"tests.{path.parent.name}.test_bad_input")
    for path in sorted((ROOT / "tests").glob("*/test_bad_input.py"))
]


def gathered(name):
    """Put together the tables of one name of every `test_bad_input.py`."""
    return {case: what for module in MODULES_OF_CASES for case, what in getattr(module, name, {}).items()}


CASES, ROWED = gathered("CASES"), gathered("ROWED")


def of(package, names):
    """Write the names of one package out."""
    return {f"{package}.{name}" for name in names.split()}


RECORDS = {
    *of(
        "decide",
        "Abstention Audit Batch Distance Drift FeatureDistance FunctionDraw Importance PredictiveCheck RiskCoverage",
    ),
    *of("decide", "Conformal ConformalSets LeaveOneOut Simulations Update"),
    *of("evaluate", "Agreement Diagnosis Finding Spread"),
    *of("forwards", "AtMean Explanation Flipout Linearized LocalReparam Route WeightSampling"),
    *of("mcmc", "Report"),
    *of("metrics", "Entropy Reliability"),
    *of("moments", "Assumption ClosedForm MeanVariance"),
    *of("networks", "Standardized"),
    *of("networks.adapters", "Equinox Haiku Linen NNX Network"),
    *of(
        "nn",
        "Affine AvgPool BatchNorm Conv Dropout Elementwise Flatten Layer LayerNorm Linear MaxPool Residual Sequential",
    ),
    *of("objectives", "Cost"),
    *of("predictive", "ClassMarginal Interval Marginal Predictive"),
    *of("serving", "Exported"),
    *of("tasks", "Regression Settings"),
    *of("torchbnn", "KLWeight"),
    *of("train", "History"),
    *of("tuning", "Tuning"),
}
"""What functions return: nobody else makes them."""

PROTOCOLS = {"posteriors.Posterior", "posteriors.GaussianPosterior"} | {
    f"{name}.{inner}"
    for name in bbb.__all__
    for inner in getattr(getattr(bbb, name), "__all__", ())
    if getattr(getattr(getattr(bbb, name), inner), "_is_protocol", False)
}
"""Abilities and base classes, which nobody makes."""

WITHOUT_A_BAD_INPUT = {
    "tasks.clean",  # NumPy's own, and that of the demo alone: `reference/` reads it without the rest of bbb
    "tasks.regression",
    "networks.adapters.network",  # gives None for what it does not know
    "networks.adapters.nnx",  # asks the other library, which has errors of its own
    "networks.adapters.equinox",
    "networks.adapters.haiku",
    "networks.Shared",  # holds anything; `fit` and `predict` check it with x
}


def public():
    """Name every public callable: of `bbb`, and of the packages it shows."""
    front = set()
    for name in bbb.__all__:
        value = getattr(bbb, name)
        if inspect.ismodule(value):
            continue
        front.add(value)
        yield name
    yield from names_of("nn", bbb.nn, front)
    for name in bbb.__all__:
        package = getattr(bbb, name)
        if inspect.ismodule(package) and package is not bbb.nn:
            yield from names_of(name, package, front)
    yield from names_of("networks.adapters", bbb.networks.adapters, front)


def names_of(name, package, front):
    """Name the callables that a package shows and the front does not."""
    for inner in getattr(package, "__all__", [key for key in vars(package) if not key.startswith("_")]):
        member = getattr(package, inner)
        ours = getattr(member, "__module__", "").startswith("bbb") and callable(member)
        if ours and member not in front and not (isinstance(member, type) and issubclass(member, Exception)):
            yield f"{name}.{inner}"
