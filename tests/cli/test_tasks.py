"""The task of the demo: y = x⁵ − 10x + 2·U(0, 1)."""

import numpy as np
import pytest

from bbb import tasks


def test_the_data_have_the_published_shapes():
    task = tasks.regression()
    assert task.x.shape == task.y.shape == (500, 1)
    assert task.x_test.shape == task.y_test.shape == task.clean_test.shape == (300, 1)
    assert {a.dtype.name for a in (task.x, task.y, task.x_test, task.y_test, task.clean_test)} == {"float64"}


def test_x_is_evenly_spaced_over_the_interval():
    task = tasks.regression(rows=11)
    np.testing.assert_allclose(task.x[:, 0], np.linspace(-2, 2, 11))
    assert task.x_test[0, 0] == -2.0
    assert task.x_test[-1, 0] == 2.0


def test_the_clean_target_is_the_polynomial_and_the_mean_of_the_noise():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    np.testing.assert_array_equal(tasks.clean(x), [-11.0, 10.0, 1.0, -8.0, 13.0])
    task = tasks.regression()
    np.testing.assert_array_equal(task.clean_test, tasks.clean(task.x_test))


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_noise_is_uniform_of_width_2(part):
    n = 50_000
    task = tasks.regression(seed=3, rows=n, test_rows=n)
    x, y = (task.x, task.y) if part == "train" else (task.x_test, task.y_test)
    noise = y - tasks.clean(x)
    assert np.abs(noise).max() <= 1.0 + 1e-9
    assert abs(noise.mean()) < 5 * tasks.NOISE_STD / np.sqrt(n)
    fourth = 1 / 5  # E u⁴ of U(−1, 1); Var u² = 1/5 − 1/9
    assert abs((noise**2).mean() - tasks.NOISE_STD**2) < 5 * np.sqrt((fourth - 1 / 9) / n)


def test_the_seed_decides_and_training_and_test_noise_differ():
    first, again, other = tasks.regression(0), tasks.regression(0), tasks.regression(1)
    np.testing.assert_array_equal(first.y, again.y)
    np.testing.assert_array_equal(first.y_test, again.y_test)
    assert (first.y != other.y).all()
    same_points = tasks.regression(rows=300, test_rows=300)
    assert (same_points.y != same_points.y_test).all()


def test_the_settings_are_the_published_ones():
    settings = tasks.Settings()
    assert (settings.hidden, settings.prior_std, settings.kl_weight) == (1000, 0.1, 0.01)
    assert (settings.learning_rate, settings.steps, settings.draws, settings.sigmas) == (0.01, 2000, 10_000, 3.0)
