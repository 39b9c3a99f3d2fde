"""The op's attributes, and the shapes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from hsnet_trt.errors import InputError

OP = "HyperCorrelation"
DOMAIN = "hsnet"
VERSION = 1
EPSILON = 1e-5  # added to the query's norm, as HSNet does

# Rows of positions are padded with zeros to a multiple of so many elements: 32 bytes in FP16, a
# sector of GPU memory. With 8, which is enough for cuBLAS, every other row of 50 x 50 starts inside
# a sector, and the kernel's copies from such rows touch half as many sectors again (README.md).
ROW_UNIT = 16

# TensorRT's builder accepts larger tensors and computes them wrongly.
MAX_ELEMENTS = 2**31 - 1
MAX_PAIRS = 65_535  # the z axis of a CUDA grid


def row_length(positions: int) -> int:
    """Elements of a padded row of so many positions: 2,512 for 50 x 50."""
    return -(-positions // ROW_UNIT) * ROW_UNIT


@dataclass(frozen=True)
class CorrelationSizes:
    """The five integer attributes of the op, for one pyramid level.

    Args:
        query_h, query_w: height and width of the query's feature map.
        support_h, support_w: height and width of the support's feature map.
        stride: the support stride of the first center-pivot convolution; ``pruned`` keeps the
            support positions 0, stride, 2 * stride, ... of each axis.

    Raises:
        InputError: a value is not a positive integer.
    """

    query_h: int
    query_w: int
    support_h: int
    support_w: int
    stride: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f"{DOMAIN}::{OP}: attribute {field.name!r} is wrong",
                    expected="an integer of at least 1",
                    found=repr(value),
                    fix=f"set {field.name} to the size of the level's feature map"
                    if field.name != "stride"
                    else "set stride to the support stride of the level's first convolution",
                )

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, int]) -> CorrelationSizes:
        """Read the sizes from a node's attributes; other attributes are ignored.

        Raises:
            InputError: one is missing or invalid.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in attributes]
        if missing:
            raise InputError(
                f"{DOMAIN}::{OP}: attributes are missing",
                expected=", ".join(names),
                found=", ".join(sorted(attributes)) or "none",
                fix=f"add {', '.join(missing)} to the node; export the model again",
            )
        return cls(**{name: attributes[name] for name in names})

    def attributes(self) -> dict[str, int]:
        """Return the attributes by name, in the order of the op's definition."""
        return asdict(self)

    @property
    def query_positions(self) -> int:
        """Positions of the query's feature map."""
        return self.query_h * self.query_w

    @property
    def support_positions(self) -> int:
        """Positions of the support's feature map."""
        return self.support_h * self.support_w

    @property
    def pruned_h(self) -> int:
        """Support rows that the stride keeps."""
        return -(-self.support_h // self.stride)

    @property
    def pruned_w(self) -> int:
        """Support columns that the stride keeps."""
        return -(-self.support_w // self.stride)

    def output_shapes(
        self,
        query: Sequence[int],
        columns: Sequence[int],
        positions: Sequence[int],
        counts: Sequence[int],
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of ``full`` and ``pruned``.

        Args:
            query: [B, L, C, row], with rows of at least query_h * query_w elements. Both rows are
                multiples of ``ROW_UNIT``.
            columns: [S, L, C, row'].
            positions: [S, row'].
            counts: [S].

        Raises:
            InputError: a shape does not fit the attributes or the other inputs, or ``full`` would
                have more than ``MAX_ELEMENTS`` elements, or of more than ``MAX_PAIRS`` pairs.
        """
        shapes = [tuple(shape) for shape in (query, columns, positions, counts)]
        fits = (
            [len(shape) for shape in shapes] == [4, 4, 2, 1]
            and shapes[0][1:3] == shapes[1][1:3]
            and shapes[2] == (columns[0], columns[3])
            and counts[0] == columns[0]
            and query[3] >= self.query_positions
            and query[3] % ROW_UNIT == columns[3] % ROW_UNIT == 0
            and min(min(shape) for shape in shapes) >= 1
        )
        if not fits:
            raise InputError(
                f"{DOMAIN}::{OP}: the inputs do not fit the op",
                expected=f"query [B, L, C, {row_length(self.query_positions)}], columns "
                f"[S, L, C, row], positions [S, row], counts [S], rows of a multiple of {ROW_UNIT}",
                found=f"{', '.join(str(list(shape)) for shape in shapes)}",
                fix="give features of one level and of the sizes in the attributes",
            )
        layers = query[1]
        pairs = query[0] * columns[0]
        full = (pairs * self.query_positions, layers, self.support_h, self.support_w)
        pruned = (pairs * self.pruned_h * self.pruned_w, layers, self.query_h, self.query_w)
        elements = pairs * layers * self.query_positions * self.support_positions
        if elements > MAX_ELEMENTS or pairs > MAX_PAIRS:
            raise InputError(
                f"{DOMAIN}::{OP}: the correlation is too large",
                expected=f"at most {MAX_ELEMENTS} elements, of at most {MAX_PAIRS} pairs",
                found=f"{elements} for {query[0]} queries and {columns[0]} supports",
                fix="match fewer supports at a time (a smaller profile)",
            )
        return full, pruned
