import numpy as np
import pytest

from tapdot.kernels.plane_cover import PlaneCover

SHAPES = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7) if rows * columns <= 6]


def cover(height, width):
    """By tiles of up to six positions, each of which costs four and one a position."""
    return PlaneCover(height, width, SHAPES, lambda shape: 4 + shape[0] * shape[1])


@pytest.mark.parametrize("plane", [(7, 7), (1, 1), (13, 5), (6, 6), (2, 30)], ids=str)
@pytest.mark.parametrize("shape", [(1, 6), (2, 3), (3, 2), (6, 1), (4, 9), (9, 9)], ids=str)
def test_every_position_is_covered_once(plane, shape):
    seen = np.zeros(plane, int)
    for region in cover(*plane).regions(shape):
        assert region.tiles > 0
        rows, columns = region.y_tiles * region.rows, region.x_tiles * region.columns
        assert region.y + rows <= plane[0] and region.x + columns <= plane[1]
        seen[region.y : region.y + rows, region.x : region.x + columns] += 1
    assert (seen == 1).all()


def test_a_strip_turns_its_tiles():
    plane = cover(7, 7)
    regions = plane.regions((1, 6))
    assert (regions[0].rows, regions[0].columns, regions[0].tiles) == (1, 6, 7)
    assert {region.columns for region in regions[1:]} == {1} and sum(region.tiles for region in regions) == 9
    assert plane.cost(regions) == 9 * 4 + 49


def test_the_first_region_holds_the_whole_tiles():
    first, *_ = cover(14, 15).regions((2, 3))
    assert (first.y, first.x, first.y_tiles, first.x_tiles) == (0, 0, 7, 5)
