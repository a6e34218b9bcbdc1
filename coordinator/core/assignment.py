"""Who takes what: the best way to give each of some rows one column of its own at most."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NOTHING = -1


def best_columns(values: Array) -> list[int]:
    """Return the column that each row takes, or `NOTHING`, so that the values taken add up to the most.

    Shortest augmenting paths (the Hungarian method): one row after the other takes a column, and those whose
    column it takes move on to their next best.

    Parameters
    ----------
    values : array
        Shape (R, C): what each pair is worth; what is not above 0 is never taken.
    """
    rows, columns = values.shape
    # Each row may also take a column of its own that is worth nothing, so that it never has to take another.
    costs = np.concatenate([-np.maximum(values, 0.0), np.zeros((rows, rows))], axis=1)
    row_price, column_price = np.zeros(rows), np.zeros(columns + rows)
    owner = np.full(columns + rows, NOTHING)
    for row in range(rows):
        _give_one(row, costs, row_price, column_price, owner)
    found = [NOTHING] * rows
    for column, row in enumerate(owner[:columns].tolist()):
        if row != NOTHING and values[row, column] > 0.0:
            found[row] = column
    return found


def _give_one(row: int, costs: Array, row_price: Array, column_price: Array, owner: NDArray[np.intp]) -> None:
    """Give one more row a column, along the cheapest path of rows that move on; prices keep it the best."""
    reached = np.full(len(owner), np.inf)  # what the cheapest path to each column costs
    came_from = np.full(len(owner), NOTHING)
    done = np.zeros(len(owner), dtype=np.bool_)
    path_rows, path_costs, far, last = [row], [0.0], 0.0, NOTHING
    while True:
        through = far + costs[path_rows[-1]] - row_price[path_rows[-1]] - column_price
        nearer = ~done & (through < reached)
        reached[nearer], came_from[nearer] = through[nearer], last
        last = int(np.where(done, np.inf, reached).argmin())
        far = float(reached[last])
        if owner[last] == NOTHING:
            break
        done[last] = True
        path_rows.append(int(owner[last]))
        path_costs.append(far)
    row_price[path_rows] += far - np.array(path_costs)
    column_price[done] -= far - reached[done]
    while last != NOTHING:
        before = int(came_from[last])
        owner[last] = row if before == NOTHING else owner[before]
        last = before
