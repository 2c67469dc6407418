"""Is it right: prior and posterior predictive checks, PSIS, simulation-based calibration, an audit by NUTS."""

__all__: list[str] = []
