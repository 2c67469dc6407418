"""JSON as every reader of it takes it: NaN and the infinities, which it has no numbers for, are null."""

import json
import math
from typing import Any


def finite(value: Any) -> Any:
    """Return a value with None for what JSON has no number for, such as the log score of a row that is impossible."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any) -> str:
    """Return a value as lines of JSON."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"
