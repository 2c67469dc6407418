"""`python -m tests.fuzz.table CORPUS -runs=100000`: see `tests.fuzz`."""

import gzip
from pathlib import Path

import numpy as np

import bbb
from bbb.tables import csv
from bbb.tables.cells import dialect, kinds
from tests.fuzz import harness

SEEDS = (
    b"a,b\n1,2\n3,4\n",
    b'\xef\xbb\xbfname,"x, y"\r\nred,1e-30\r\n"gr""een",-2.5\r\n',
    b"a,b,c\n1,,nan\n",
    b"a\n" + b"1\n" * 20,
    b"a;b\n1,5;2026-01-31\n;2026-02-01T12:00Z\n",
    b"a\tb\n1.234\tNA\n",
    gzip.compress(b"a,b\n1,2\n"),
)


ANY = {"kinds": "any", "holes": True}


def read(path: Path) -> None:
    """Read a table in every way; what is read has to be finite, and to be read again from what is written."""
    for options in ({}, {"labels": "name"}, {"only": ["a"]}, {"drop": ["b"]}, ANY):
        try:
            found = csv.read(path, **options)
        except bbb.errors.TableError as error:
            harness.check_refusal(error)
            continue
        assert np.isfinite(found.values).all() or options is ANY
        assert not np.isinf(found.values).any()
        assert found.values.shape[1] == len(found.columns)
        assert len(found.names) == len(set(found.names))
        assert found.rows == len(found.lines) >= 1
        if not options:
            path.write_text(csv.text(dict(zip(found.columns, found.values.T, strict=True))), encoding="utf-8")
            again = csv.read(path)
            assert again.columns == found.columns
            np.testing.assert_array_equal(again.values, found.values)
            return


if __name__ == "__main__":
    harness.run(read, SEEDS, [csv, kinds, dialect], largest=4096)
