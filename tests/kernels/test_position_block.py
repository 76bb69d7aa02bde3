"""Blocks of positions: every position of a block in the plane is written from a lane that stands for it."""

import numpy as np
import pytest

from tapdot.kernels.position_block import NARROWED, PART, Block, SquareBlock

BLOCKS = [
    Block(4, 8, 4, 8, 2, 16),
    Block(2, 16, 2, 14, 2, 16),
    Block(8, 4, 8, 3, 2, 16),
    Block(4, 8, 3, 7, 2, 16),
    Block(2, 8, 1, 1, 1, 16),
    Block(1, 16, 1, 13, 1, 16),
    Block(1, 8, 1, 5, 1, 8),
    Block(1, 64, 1, 64, 4, 16),
    Block(4, 4, 4, 2, 4, 4),
    SquareBlock(8, 8, 8, 8, 4, 16),
    SquareBlock(4, 16, 3, 13, 4, 16),
    SquareBlock(4, 8, 4, 7, 4, 8),
    SquareBlock(4, 4, 4, 1, 2, 8),
]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_pieces_cover_the_block_and_come_from_the_right_lanes(block: Block) -> None:
    rows, columns = block.lane_positions()
    lane_of = {block.code(v, lane): (v, lane) for v in range(block.vectors) for lane in range(block.lanes)}
    assert sorted(lane_of) == list(range(block.rows * block.columns))
    covered = np.zeros((block.height, block.width), bool)
    for code, row, column in block.pieces():
        for index in range(block.stored):
            vector, lane = lane_of[code + index]
            assert (rows[vector * block.lanes + lane], columns[vector * block.lanes + lane]) == (row, column + index)
            covered[row, column + index] = True
    assert covered.all()
    assert rows.max() < block.height and columns.max() < max(block.width, block.piece), "no lane reads far outside the plane"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_codes_of_a_run_are_neighbours_after_packing(block: Block) -> None:
    for vector in range(block.vectors):
        for lane in range(block.lanes):
            packed = PART * NARROWED * (lane // PART) + PART * vector + lane % PART
            code = block.code(vector, lane)
            ordered = code // block.run * PART * NARROWED + code % block.run
            assert packed == (ordered if block.reorder is None else block.reorder[ordered])


def test_a_block_fills_its_vectors() -> None:
    with pytest.raises(ValueError, match="fill 1, 2 or 4 vectors"):
        Block(4, 8, 4, 8, 1, 16)
    with pytest.raises(ValueError, match="fill 1, 2 or 4 vectors"):
        Block(3, 16, 3, 16, 3, 16)
