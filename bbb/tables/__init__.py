"""Models of tables: from a CSV file to a band."""

from bbb.tables.csv import Table, read
from bbb.tables.fit import fit_table
from bbb.tables.model import TabularModel
from bbb.tables.recipe import Recipe

__all__ = ["Recipe", "Table", "TabularModel", "fit_table", "read"]
