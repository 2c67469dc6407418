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
    own, mended = np.array(made["of_own"]), np.array(made["of_mended"])
    assert own[-1] < 0.55
    assert np.all(own < made["levels"] - 0.04)
    assert abs(mended[-1] - 0.9) < 0.03
    assert np.abs(mended - made["levels"]).max() < 0.06
    seen, ends = made["seen"], made["mended"](made["new"], 0.9)
    assert share_inside(seen[:500], [end[:500] for end in ends]) > 0.95
    assert share_inside(seen[-500:], [end[-500:] for end in ends]) < 0.8


def outliers(made):
    gaussian, student = made["found"].values()
    true = np.sin(2 * made["grid"])
    assert share_inside(true, student.sigma_interval(2)) == 1
    error = [np.sqrt(np.mean((f.mean - true) ** 2)) for f in (gaussian, student)]
    assert error[0] > 4 * error[1]
    assert np.mean(gaussian.mean - true) > 0.2  # towards the wrong rows, which lie above


def counts(made):
    lower, upper = made["made"].y.interval(0.95)
    day, rented = made["day"][:, 0], made["rented"][:, 0]
    ends = [np.interp(day, made["grid"][:, 0], end[:, 0]) for end in (lower, upper)]
    assert 0.9 < share_inside(rented, ends) <= 1
    assert np.min(lower) >= 0
    width = (upper - lower)[:, 0]
    assert width.max() > 5 * width.min()
    assert abs(made["grid"][width.argmax(), 0] - 202) < 20


def digits(made):
    new, turned, both, shuffled = np.median(made["entropy"].reshape(4, -1), axis=1)
    assert both > 3 * new
    assert shuffled > both
    assert turned < both / 2


def functions(made):
    assert made["report"].f.rhat.max() < 1.05
    before, after = (np.asarray(functions)[:, :, 0].std(axis=0) for functions in made["drawn"])
    grid, rows = made["grid"][:, 0], made["x"][:, 0]
    at_rows = np.interp(rows, grid, after)
    assert np.all(at_rows < 0.1)
    assert np.interp(1.2, grid, after) > 2 * at_rows.max()
    assert min(after[0], after[-1]) > 2 * at_rows.max()
    assert np.all(after < before / 2)


def gap(made):
    assert made["report"].f.rhat.max() < 1.1
    grid, curve = made["grid"][:, 0], made["curve"]
    between, at_rows = np.abs(grid) < 0.7, np.abs(np.abs(grid) - 1.15) < 0.4
    widths = [np.ravel(upper - lower) for lower, upper in made["bands"]]
    independent, laplace, chains = ([width[place].mean() for place in (between, at_rows)] for width in widths)
    assert min(laplace[0], chains[0]) > 2 * independent[0]
    assert max(laplace[1], chains[1]) < 0.7 * independent[1]
    inside = [share_inside(curve[between], [end[between] for end in ends]) for ends in made["bands"]]
    assert inside[0] < 0.9
    assert min(inside[1:]) > 0.95


def moons(made):
    distance = np.linalg.norm(made["plane"][:, None] - made["x"][None], axis=-1).min(axis=1)
    border = np.abs(made["made"].probabilities[:, 0] - 0.5) < 0.15
    epistemic = made["made"].entropy.epistemic
    assert epistemic[border & (distance > 1.5)].mean() > 4 * epistemic[border & (distance < 0.2)].mean()
    assert np.mean(epistemic[~border] < 0.1) > 0.6


def pruning(made):
    shares, left = made["shares"], made["left"]
    assert np.all(left[shares <= 0.95] > left[0] - 1)
    assert left[-1] < left[0] - 10
    assert np.mean(made["ratios"] < 1) > 0.9


def search(made):
    y, rows = made["y"][:, 0], made["rows"]
    assert y[rows[:3]].max() < 0.1
    assert y[rows[:7]].max() > y.max() - 0.02  # the fourth answer
    (_, first, left), (_, second, right) = made["shown"][:2]
    for (lower, upper), chosen in ((first, left), (second, right)):
        width = np.ravel(upper - lower)
        assert width[chosen] > 0.8 * width.max()


def surface(made):
    distance = np.linalg.norm(np.stack(made["square"], -1)[:, :, None] - made["x"], axis=-1).min(axis=-1)
    alpha = made["colors"][..., 3]
    assert np.mean(alpha[distance < 0.15] > 0.8) > 0.95
    assert np.mean(alpha[distance > 1.5] == 0) > 0.9


CLAIMS = {
    claim.__name__: claim
    for claim in (band, counts, digits, functions, gap, moons, noise, outliers, promise, pruning, search, surface)
}


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
