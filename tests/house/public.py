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

RECORDS = {
    *("Explanation", "Route", "Diagnosis", "Finding", "Closed", "Interval", "ClassMarginal", "Marginal", "Predictive"),
    *("ensemble.Spread", "metrics.Entropy", "metrics.Reliability", "mixture.Pairs", "mixture.Root", "mixture.At"),
    *("objective.Cost", "torchbnn.KLWeight", "History", "ClosedForm", "Standardized", "adapters.Network"),
    *("adapters.Static", "adapters.Linen", "adapters.NNX", "adapters.Equinox", "adapters.Haiku", "mixture.Mixture"),
    *("mixture.Normals", "Exported", "tasks.Regression", "tasks.Settings", "prior.WithNoise"),
}
"""What functions give back: nobody else makes them."""

PARTS_OF_OTHERS = {
    *("objective.data_for", "objective.draw_keys", "objective.evaluate_draws", "objective.with_kl_noise"),
    *("objective.Integrated", "objective.has_exact_elbo", "adapters.library_of"),
    *("objective.with_std_error", "posterior.per_leaf", "posterior.independent", "posterior.marginals"),
    *("posterior.least_log_std", "posterior.GaussianPosterior", "prior.check_fits", "prior.with_noise"),
    *("mixture.group_means", "mixture.mean_of_draws"),
    *("likelihood.check_likelihood", "likelihood.check_predicts", "likelihood.check_quantiles", "prior.check_prior"),
    *("likelihood.check_samples", "likelihood.observed", "posterior.check_random"),
    *("mixture.solve", "mixture.solve_near", "mixture.without_lone_axis", "posterior.check_posterior"),
    *("nn.Layer", "nn.Linear", "nn.Conv", "nn.BatchNorm", "nn.LayerNorm", "nn.MaxPool", "nn.AvgPool", "nn.Flatten"),
    *("nn.Dropout", "nn.Sequential", "nn.Residual", "nn.Affine", "nn.Elementwise", "nn.refuse_x", "nn.check_params"),
    *("nn.check_start", "nn.check_fraction", "nn.check_padding", "nn.check_space", "nn.draw_weights", "nn.count_dims"),
    *("nn.per_axis", "nn.sizes_per_axis", "nn.read_padding", "adapters.mode_options", "adapters.parameters_of"),
    *("adapters.state_only", "adapters.is_equinox_state", "adapters.root_name"),
    *("prior.Prior", "likelihood.Likelihood", "torchbnn.LastLayerWarning"),
    *("prior.SupportsLogDensity", "prior.SupportsLogProb", "prior.SupportsFitting", "prior.needs_estimate"),
    *("prior.raise_without_key", "likelihood.log_prob_of_draws", "likelihood.is_discrete", "likelihood.noise_std"),
    *("likelihood.SupportsFunction", "likelihood.SupportsMoments", "likelihood.SupportsQuantiles"),
    *("likelihood.SupportsClasses", "likelihood.SupportsSampling", "likelihood.SupportsGaussianNoise"),
    *("likelihood.SupportsExpectedLogProb", "likelihood.SupportsTrainingCheck", "likelihood.SupportsTabulatedCDF"),
    *("likelihood.SupportsGaussianComponents", "likelihood.SupportsDraws", "likelihood.NumericLikelihood"),
    "likelihood.CountLikelihood",
    *("plot.axes", "plot.column", "plot.diagonal", "plot.legend_above", "plot.paler", "plot.styles"),
    "torchbnn.check_options",
}
"""What the modules use of each other, the classes that functions of nearly their names make, and protocols."""

WITHOUT_A_BAD_INPUT = {
    "tasks.clean",  # NumPy's own, and that of the demo alone: `reference/` reads it without the rest of bbb
    "tasks.regression",
    "adapters.network",  # gives None for what it does not know
    "adapters.nnx",  # asks the other library, which has errors of its own
    "adapters.equinox",
    "adapters.haiku",
}


def public():
    """Name every public callable: of `bbb`, and of the modules it shows."""
    for name, value in vars(bbb).items():
        home = getattr(value, "__module__", "")
        if name.startswith("_") or (isinstance(value, type) and issubclass(value, Exception)):
            continue
        if callable(value) and home.startswith("bbb"):
            yield name
        elif inspect.ismodule(value) and value.__name__ in MODULES:
            for inner, member in vars(value).items():
                ours = getattr(member, "__module__", None) == value.__name__
                again = inner in vars(bbb) and vars(bbb)[inner] is member
                if callable(member) and ours and not inner.startswith("_") and not again:
                    yield f"{name}.{inner}"


MODULES = {
    *("bbb.adapters", "bbb.ensemble", "bbb.likelihood", "bbb.metrics", "bbb.mixture", "bbb.nn", "bbb.objective"),
    *("bbb.plot", "bbb.posterior", "bbb.prior", "bbb.schedule", "bbb.tasks", "bbb.torchbnn"),
}
