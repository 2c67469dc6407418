"""`python -m tests.fuzz.table CORPUS -runs=100000`: see `tests.fuzz`."""

from pathlib import Path

import numpy as np

import bbb
from bbb.tables import csv
from tests.fuzz import harness

SEEDS = (
    b"a,b\n1,2\n3,4\n",
    b'\xef\xbb\xbfname,"x, y"\r\nred,1e-30\r\n"gr""een",-2.5\r\n',
    b"a,b,c\n1,,nan\n",
    b"a\n" + b"1\n" * 20,
)


def read(path: Path) -> None:
    """Read a table in every way; what is read has to be finite, and to be read again from what is written."""
    for options in ({}, {"labels": "name"}, {"only": ["a"]}, {"drop": ["b"]}):
        try:
            found = csv.read(path, **options)
        except bbb.errors.TableError as error:
            harness.check_refusal(error)
            continue
        assert np.isfinite(found.values).all()
        assert found.values.shape[1] == len(found.columns) == len(set(found.columns))
        assert len(found.values) or found.texts
        if not options:
            path.write_text(csv.text(dict(zip(found.columns, found.values.T, strict=True))), encoding="utf-8")
            again = csv.read(path)
            assert again.columns == found.columns
            np.testing.assert_array_equal(again.values, found.values)
            return


if __name__ == "__main__":
    harness.run(read, SEEDS, [csv], largest=4096)
