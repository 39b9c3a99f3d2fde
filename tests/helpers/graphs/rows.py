"""Rows of positions as the graphs pass them: with zeros behind, to a multiple of 16."""

from __future__ import annotations

import torch


def in_rows(values: torch.Tensor) -> torch.Tensor:
    """[...,positions] -> [...,row]."""
    return torch.nn.functional.pad(values, (0, -values.shape[-1] % 16))
