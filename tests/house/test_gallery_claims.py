"""What the scripts of the gallery say of their pictures holds: each runs, and its numbers are looked at."""

import runpy

import numpy as np
import pytest

from tests.house.test_gallery import FOLDER, SCRIPTS

pytestmark = pytest.mark.slow


def share_inside(values, ends):
    lower, upper = ends
    return np.mean((np.asarray(lower) <= values) & (values <= np.asarray(upper)))


def band(made):
    task = made["task"]
    assert made["band"].f.draws == 10_000
    assert share_inside(task.y_test, made["band"].y.sigma_interval(3)) == 1
    assert share_inside(task.clean_test, made["band"].f.sigma_interval(3)) > 0.95
    assert 0.5 < made["history"].noise_std[-1] < 0.75


def noise(made):
    grid, epistemic, aleatoric = made["grid"], made["epistemic"], made["total"] - made["epistemic"]
    gap, right, left = np.abs(grid) < 0.5, (grid > 1.5) & (grid < 2.5), (grid > -2.5) & (grid < -1.5)
    assert epistemic[gap].mean() > 5 * max(epistemic[right].mean(), epistemic[left].mean())
    assert epistemic[gap].mean() > aleatoric[gap].mean()
    assert aleatoric[right].mean() > 10 * aleatoric[left].mean()
    assert aleatoric[right].mean() > 10 * epistemic[right].mean()


def promise(made):
    own, calibrated = (
        [np.mean(share_inside(made["y"][made["new"]], ends)) for ends in made["shares"][name]]
        for name in ("its own", "calibrated")
    )
    assert own[-1] < 0.5
    assert np.abs(np.array(calibrated) - made["levels"]).max() < 0.05
    assert abs(calibrated[-1] - 0.9) < 0.03
    y, ends = made["y"][made["new"]], made["shares"]["calibrated"][-1]
    assert share_inside(y[:500], [end[:500] for end in ends]) > 0.95
    assert share_inside(y[-500:], [end[-500:] for end in ends]) < 0.8


def outliers(made):
    gaussian, student = made["found"].values()
    true = np.sin(2 * made["grid"])
    assert share_inside(true, student.sigma_interval(2)) == 1
    error = [np.sqrt(np.mean((f.mean - true) ** 2)) for f in (gaussian, student)]
    assert error[0] > 4 * error[1]
    assert np.mean(gaussian.mean - true) > 0.2  # towards the wrong rows, which lie above


CLAIMS = {claim.__name__: claim for claim in (band, noise, promise, outliers)}


def test_each_script_has_its_claims():
    assert {script.stem for script in SCRIPTS} == {f"plot_{name}" for name in CLAIMS}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_script_says_of_its_picture_holds(name, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    try:
        CLAIMS[name](runpy.run_path(str(FOLDER / f"plot_{name}.py")))
        figures = [plt.figure(number) for number in plt.get_fignums()]
        assert len(figures) == 1
        assert len(alt_text(figures[0])) > 15
    finally:
        plt.close("all")


def alt_text(figure):
    """Return what Sphinx-Gallery writes for those who cannot see a picture: all its titles."""
    return ", ".join(filter(None, [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]))
