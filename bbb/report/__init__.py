"""A report on a model and rows with known targets: one HTML file, which needs nothing else to be read.

    model, history = bbb.tables.fit_table(bbb.tables.read("train.csv", kinds="any"), "price")
    bbb.report.write("house.html", model, "test.csv", group="town")

It is the page that `bbb report house.safetensors test.csv` writes. Figures are drawn by plotly.js, which is within the
file; without it, and for who cannot see them, a sentence and a table beside each say the same. Needs plotly and jinja2:
`pip install '.[report]'` in a clone of bbb.
"""

from bbb.report.api import write

__all__ = ["write"]
