"""Models of tables: from a file, or a frame, to a band."""

from bbb.tables import streams
from bbb.tables.fit import fit_table
from bbb.tables.formats import read
from bbb.tables.frames import as_table
from bbb.tables.model import TabularModel
from bbb.tables.recipe import Recipe
from bbb.tables.table import Table

__all__ = ["Recipe", "Table", "TabularModel", "as_table", "fit_table", "read", "streams"]
