"""Evaluates expressions of geometry, and says what came out in plain values; runs as a program beside the reference library.

Read from standard input are lists of expressions, in JSON one a line; written are lists of answers: ``value``, or ``error``
with the names of the builtin classes that the error derives from.
"""

from __future__ import annotations

import builtins
import enum
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = (
    *("BoundingBox", "LengthUnit", "Mag", "NDBoundingBox", "NormalizedBoundingBox", "Vec3Float", "Vec3Int", "VecInt"),
    "VoxelSize",
)
MOST = 1000


def answer(expression: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate an expression."""
    try:
        return {"value": plain(eval(expression, dict(names)))}
    except Exception as error:  # noqa: BLE001 - each is an answer
        return {"error": [c.__name__ for c in type(error).__mro__ if getattr(builtins, c.__name__, None) is c]}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it, with the name of its class where that is one of geometry."""
    import numpy as np

    kind = type(value).__name__
    if hasattr(value, "topleft") and hasattr(value, "axes"):
        return [kind, plain(list(value.topleft)), plain(list(value.size)), list(value.axes), plain(list(value.index))]
    if kind in NAMES and hasattr(value, "to_layer_name"):
        return [kind, list(value.to_tuple())]
    if kind in NAMES and hasattr(value, "factor"):
        return [kind, list(value.factor), str(value.unit.value)]
    if isinstance(value, enum.Enum):
        return [kind, value.value]
    if kind in NAMES:
        return [kind, [plain(part) for part in value], list(getattr(value, "axes", ()))]
    if isinstance(value, np.ndarray | np.generic):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, slice):
        return ["slice", value.start, value.stop]
    if isinstance(value, Mapping):
        return [[plain(key), plain(part)] for key, part in value.items()]
    if isinstance(value, list | tuple | Iterator | map):
        return [plain(part) for part in itertools.islice(value, MOST)]
    return value


def main() -> None:
    """Answer what is asked."""
    import numpy
    import webknossos

    names = {name: getattr(webknossos, name) for name in NAMES if hasattr(webknossos, name)} | {"np": numpy}
    for line in sys.stdin:
        print(json.dumps([answer(expression, names) for expression in json.loads(line)]), flush=True)


if __name__ == "__main__":
    main()
