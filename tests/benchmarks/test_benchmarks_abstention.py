"""The benchmark of abstention: its letters, its splits, and what a tiny run of its methods answers."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import abstention

TINY = {"width": 4, "steps": 3, "members": 2, "draws": 8, "splits": 1}


@pytest.fixture(scope="module")
def arrays():
    rows = abstention.data()
    return {**rows, "letters": rows["letters"][:30]}


def test_letters_are_made_as_the_digits_are(arrays):
    every = abstention.letters()
    assert every.shape == (12 * 24, 64)
    np.testing.assert_array_equal(every * 16, np.round(every * 16))  # pixels of 4 × 4 squares
    assert (every.min(), every.max()) == (0, 1)
    assert every.reshape(-1, 8, 8)[:, 0].any(axis=1).mean() > 0.9  # most fill all rows
    tall = every.reshape(-1, 8, 8)[abstention.LETTERS.index("L")]
    assert tall[:, :4].sum() > tall[:, 4:].sum()
    assert abs(every.mean() - arrays["x"].mean()) < 0.1


def test_a_split_learns_from_no_row_that_chooses_or_is_scored(arrays):
    rows = abstention.split(arrays, 0)
    assert len(rows.x) == 1_000
    assert {name: len(x) for name, x in rows.sets.items()} == {
        "choose": 400,
        "scored": 397,
        "letters": 30,
        "sideways": 397,
        "negative": 397,
    }
    parts = np.concatenate([rows.x, rows.sets["choose"], rows.sets["scored"]])
    order = np.lexsort(parts.T), np.lexsort(arrays["x"].T)
    np.testing.assert_array_equal(parts[order[0]], arrays["x"][order[1]])
    np.testing.assert_array_equal(
        rows.sets["sideways"][0].reshape(8, 8), np.rot90(rows.sets["scored"][0].reshape(8, 8))
    )


@pytest.mark.parametrize(
    ("method", "gains", "scores"),
    [
        ("ensemble", (1.0, 2.0), {"1 − max p", "entropy", "mutual information"}),
        ("kron", (2.0,), {"1 − max p", "entropy", "mutual information", "feature distance"}),
    ],
)
def test_a_method_answers_every_set_and_chooses_its_gain_without_strange_rows(arrays, method, gains, scores):
    found = abstention.run_method(arrays, {"recipe": {**TINY, "gains": gains}}, method=method)()
    assert found["gain"] in gains
    for name in ("choose", "scored", *abstention.STRANGE):
        assert {key.split("|")[2] for key in found if key.startswith(f"0|{name}|")} - {"wrong"} == scores
    records = abstention.judged(method, found, 1)
    assert {record["score"] for record in records} == scores
    for record in records:
        assert all(0 <= record[name] <= 1 for name in (*abstention.STRANGE, "error", "aurc", "answered"))
        assert len(abstention._cells(record)) == len(abstention.HEAD)
    assert abstention.picture(arrays, {abstention.PICTURED: found} if method == "kron" else {}).startswith(b"\x89PNG")
