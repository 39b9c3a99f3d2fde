"""How long a row of positions is in what passes between the graphs."""

from __future__ import annotations

# Positions behind a level's h*w, all zero, fill a row to a multiple of so many elements: 32 bytes
# in FP16, a whole sector of GPU memory, and two in FP32.
ROW_UNIT = 16


def row_length(positions: int) -> int:
    """The elements of a row that holds so many positions: 2,512 for 50 x 50."""
    return -(-positions // ROW_UNIT) * ROW_UNIT
