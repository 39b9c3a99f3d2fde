"""Types of the manifest's fields, with the rules that `schema` checks."""

from __future__ import annotations

import math
import re
from typing import Annotated

from hsnet_trt.runtime.bundle.schema import Rule

_PART = re.compile(r"(?!\.{1,2}$)[\w.@+~ -]{1,200}", re.ASCII)
_DYNAMIC = re.compile(r"[NBS]|[RT][234]")


def _fits_in_bundle(name: str) -> bool:
    return len(name) <= 1000 and all(_PART.fullmatch(part) for part in name.split("/"))


def _is_shape(shape: tuple[int | str, ...]) -> bool:
    return 0 < len(shape) <= 8 and all(
        0 < n < 1 << 31 if isinstance(n, int) else _DYNAMIC.fullmatch(n) for n in shape
    )


# The path of a file in the bundle, such as "graphs/match_400x400.onnx".
FileName = Annotated[
    str, Rule("the path of a file in the bundle, not outside of it", _fits_in_bundle)
]
Sha256 = Annotated[
    str, Rule("64 hexadecimal digits", lambda s: bool(re.fullmatch(r"[0-9a-f]{64}", s)))
]
Count = Annotated[int, Rule("0 or more", lambda n: 0 <= n < 1 << 63)]
Extent = Annotated[int, Rule("1 to 65536", lambda n: 1 <= n <= 1 << 16)]
Grid = tuple[Extent, Extent]  # height, width
Finite = Annotated[float, Rule("a finite number", math.isfinite)]
Spread = Annotated[float, Rule("a number above 0", lambda x: 0 < x < math.inf)]
# The shape of a graph's input or output.
Shape = Annotated[
    tuple[int | str, ...],
    Rule("numbers from 1 up, or names of dynamic dimensions (N, B, S, R2, T2, ...)", _is_shape),
]
