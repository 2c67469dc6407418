"""The pictures show the curves and the scores they are given, on the axes they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from bbb import metrics, plots
from bbb.decide.abstention import learn_then_test, risk_coverage

CURVE = risk_coverage([0, 1, 0, 1], [1, 3, 2, 4])


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_curve_is_drawn_at_its_points_with_its_area():
    given = Figure().add_subplot()
    ax = plots.risk_coverage(CURVE, ax=given)
    assert ax is given
    (line,) = ax.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [25, 50, 75, 100])
    np.testing.assert_allclose(line.get_ydata(), CURVE.risk)
    assert texts(ax) == [f"AURC {CURVE.aurc:.3g}"]
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_a_rule_is_drawn_where_it_ends_and_at_what_it_promises():
    rule = learn_then_test(np.zeros(100), np.arange(100), rate=0.05)
    ax = plots.risk_coverage(CURVE, rule=rule, ax=Figure().add_subplot())
    _, rate, coverage = ax.get_lines()
    assert set(rate.get_ydata()) == {0.05}
    assert set(coverage.get_xdata()) == {99.0}


def test_several_curves_have_their_names_and_styles():
    ax = plots.risk_coverage({"entropy": CURVE, "std": CURVE}, ax=Figure().add_subplot())
    one, other = ax.get_lines()
    assert (one.get_color(), one.get_linestyle()) != (other.get_color(), other.get_linestyle())
    assert [text.split(",")[0] for text in texts(ax)] == ["entropy", "std"]


def test_the_bars_of_scores_add_up_to_all_rows_and_the_area_is_said():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=50), rng.normal(4, 1, size=70)
    ax = plots.ood_histogram(inside, outside, bins=9, threshold=2.0, ax=Figure().add_subplot())
    steps = [patch.get_data() for patch in ax.patches]
    assert len(steps) == 4  # a surface and a line of each
    for values, edges, _ in steps:
        assert values.sum() == pytest.approx(100)
        assert (edges[0], edges[-1]) == (min(inside.min(), outside.min()), max(inside.max(), outside.max()))
    assert texts(ax)[0] == "50 usual rows"
    assert texts(ax)[1] == f"70 strange rows, AUROC {metrics.auroc(inside, outside):.3f}"
    assert ax.get_lines()[0].get_xdata()[0] == 2


def test_scores_that_are_all_the_same_are_drawn():
    ax = plots.ood_histogram([1.0, 1.0], [1.0], ax=Figure().add_subplot())
    assert texts(ax)[-1] == "1 strange row, AUROC 0.500"


def test_scores_on_a_logarithmic_axis_are_all_inside_it():
    ax = plots.ood_histogram([1.0, 2.0, 4.0], [8.0, 1000.0], bins=4, log=True, ax=Figure().add_subplot())
    assert ax.get_xscale() == "log"
    for patch in ax.patches:
        values, edges, _ = patch.get_data()
        assert values.sum() == pytest.approx(100)
        np.testing.assert_allclose(edges, 1000 ** (np.arange(5) / 4))


def test_a_notebook_shows_a_curve_as_a_picture_and_a_table():
    html = CURVE._repr_html_()
    assert "data:image/png;base64," in html
    assert "excess AURC" in html
