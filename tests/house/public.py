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
    *(
        "forwards.Explanation",
        "forwards.Route",
        "evaluate.Diagnosis",
        "evaluate.Finding",
        "moments.Closed",
        "predictive.Interval",
        "predictive.ClassMarginal",
        "predictive.Marginal",
        "predictive.Predictive",
    ),
    *("evaluate.Spread", "metrics.Entropy", "metrics.Reliability", "mixture.Pairs", "mixture.Root", "mixture.At"),
    *(
        "objectives.Cost",
        "torchbnn.KLWeight",
        "train.History",
        "moments.ClosedForm",
        "networks.Standardized",
        "networks.adapters.Network",
    ),
    *(
        "networks.adapters.Static",
        "networks.adapters.Linen",
        "networks.adapters.NNX",
        "networks.adapters.Equinox",
        "networks.adapters.Haiku",
        "mixture.Mixture",
    ),
    *("mixture.Normals", "serving.Exported", "tasks.Regression", "tasks.Settings", "priors.WithNoise"),
}
"""What functions give back: nobody else makes them."""

PARTS_OF_OTHERS = {
    *("data.data_for", "objectives.draw_keys", "objectives.evaluate_draws", "objectives.with_kl_noise"),
    *("objectives.Integrated", "objectives.has_exact_elbo", "networks.adapters.library_of"),
    *("objectives.with_std_error", "core.per_leaf", "posteriors.independent", "posteriors.marginals"),
    *("posteriors.least_log_std", "posteriors.GaussianPosterior", "priors.check_fits", "priors.with_noise"),
    *("mixture.group_means", "mixture.mean_of_draws"),
    *(
        "likelihoods.check_likelihood",
        "likelihoods.check_predicts",
        "likelihoods.check_quantiles",
        "priors.check_prior",
    ),
    *("likelihoods.check_samples", "likelihoods.observed", "posteriors.check_random"),
    *("mixture.solve", "mixture.solve_near", "mixture.without_lone_axis", "posteriors.check_posterior"),
    *("nn.Layer", "nn.Linear", "nn.Conv", "nn.BatchNorm", "nn.LayerNorm", "nn.MaxPool", "nn.AvgPool", "nn.Flatten"),
    *("nn.Dropout", "nn.Sequential", "nn.Residual", "nn.Affine", "nn.Elementwise", "nn.refuse_x", "nn.check_params"),
    *("nn.check_start", "nn.check_fraction", "nn.check_padding", "nn.check_space", "nn.draw_weights", "nn.count_dims"),
    *(
        "nn.per_axis",
        "nn.sizes_per_axis",
        "nn.read_padding",
        "networks.adapters.mode_options",
        "networks.adapters.parameters_of",
    ),
    *("networks.adapters.state_only", "networks.adapters.is_equinox_state", "networks.adapters.root_name"),
    *("priors.Prior", "likelihoods.Likelihood", "torchbnn.LastLayerWarning"),
    *("priors.SupportsLogDensity", "priors.SupportsLogProb", "priors.SupportsFitting", "priors.needs_estimate"),
    *("priors.raise_without_key", "likelihoods.log_prob_of_draws", "likelihoods.is_discrete", "likelihoods.noise_std"),
    *("likelihoods.SupportsFunction", "likelihoods.SupportsMoments", "likelihoods.SupportsQuantiles"),
    *("likelihoods.SupportsClasses", "likelihoods.SupportsSampling", "likelihoods.SupportsGaussianNoise"),
    *("likelihoods.SupportsExpectedLogProb", "likelihoods.SupportsTrainingCheck", "likelihoods.SupportsTabulatedCDF"),
    *("likelihoods.SupportsGaussianComponents", "likelihoods.SupportsDraws", "likelihoods.NumericLikelihood"),
    "likelihoods.CountLikelihood",
    *("plots.axes", "plots.column", "plots.diagonal", "plots.legend_above", "plots.paler", "plots.styles"),
    "torchbnn.check_options",
}
"""What the modules use of each other, the classes that functions of nearly their names make, and protocols."""

WITHOUT_A_BAD_INPUT = {
    "tasks.clean",  # NumPy's own, and that of the demo alone: `reference/` reads it without the rest of bbb
    "tasks.regression",
    "networks.adapters.network",  # gives None for what it does not know
    "networks.adapters.nnx",  # asks the other library, which has errors of its own
    "networks.adapters.equinox",
    "networks.adapters.haiku",
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
    *(
        "bbb.networks.adapters",
        "bbb.evaluate",
        "bbb.likelihoods",
        "bbb.metrics",
        "bbb.mixture",
        "bbb.nn",
        "bbb.objectives",
    ),
    *("bbb.plots", "bbb.posteriors", "bbb.priors", "bbb.objectives", "bbb.tasks", "bbb.torchbnn"),
}
