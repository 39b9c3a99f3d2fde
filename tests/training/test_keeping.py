"""What a run refuses to resume from."""

from __future__ import annotations

import argparse

import pytest
import torch

from hsnet_trt.errors import CheckpointError
from hsnet_trt.training.keeping import LAST, load_run


def test_a_state_that_could_run_code_is_refused_in_our_own_words(tmp_path):
    torch.save({"facts": argparse.Namespace(lr=1)}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="could run code") as error:
        load_run(tmp_path, None, None, None)
    assert "\x1b" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize("state", [{}, [1], {"facts": {}}, {"facts": [], "state_dict": 3}])
def test_a_file_of_something_else(state, tmp_path):
    torch.save(state, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="cannot resume"):
        load_run(tmp_path, None, None, None)
