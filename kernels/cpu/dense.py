"""Dense layers: y[B, O] = x[B, I] w[I, O] + b[O], and its two gradients, over some rows of the batch or of w.

Three products, none of which needs a packed copy of its operands: at the sizes that fit a cache, loads keep up with the
arithmetic as they are, and batches are too thin to repay a copy of the weights.

- forward, x w: outer tiles. Rows of w are read along, 32 columns (with AVX-512) of up to 14 samples stay in registers.
- by the weights, x^T dz: outer tiles, summed over the batch.
- by the inputs, dz w^T: both operands are read along their rows, so dot tiles, 4 x 4 sums of 16 lanes each.

A layer of few outputs would leave most lanes of an outer tile idle, and most time of a dot tile in adding up lanes: up
to NARROW outputs w is transposed first. Which of the forms a layer takes depends on its shape alone, and in each the
order of every sum is fixed: so the same numbers come out for every number of threads and every height of a tile.

A unit whose value is zero in all of a thread's samples (a dead relu; for y = sin(x), half of them and more) needs no
product: ``index`` lists those that do, and the tiles go through the list.
"""

from .layout import CHUNK, NARROW
from .vector import COLUMNS, DOT_COLUMNS, DOT_ROWS, LANES, ROWS, at, dot_tile, kernel, outer_tile

FEW = 4  # outputs up to which dot tiles go forward as well
SLAB = 131_072  # floats of dz that stay in the second cache while tiles of the weight gradient go over them: 512 KiB
DEPTH = 1024  # samples that are summed at a time


@kernel
def outer_product(c, c_row, a, a_row, a_step, b, b_step, index, steps, rows, columns, more):
    """c[rows, columns] = (c if ``more``) + a b, as `outer_tile`, of any size."""
    tiles = (rows + ROWS - 1) // ROWS
    j = 0
    while j < columns:
        width = columns - j
        if width >= COLUMNS:
            width = COLUMNS
        elif width > LANES:
            width = LANES
        for t in range(tiles):
            first, last = rows * t // tiles, rows * (t + 1) // tiles
            outer_tile(
                at(c, first * c_row + j), c_row, at(a, first * a_row), a_row, a_step, at(b, j), b_step, index, steps,
                last - first, width, more,
            )  # fmt: skip
        j += width


@kernel
def dot_product(c, c_row, a, a_row, b, b_row, index, steps, rows, columns):
    """c[:, index] = a b^T, as `dot_tile`, for any number of rows and of columns in the list."""
    for j in range(0, columns, DOT_COLUMNS):
        for r in range(0, rows, DOT_ROWS):
            dot_tile(
                at(c, r * c_row), c_row, at(a, r * a_row), a_row, b, b_row, at(index, j), steps,
                min(DOT_ROWS, rows - r), min(DOT_COLUMNS, columns - j),
            )  # fmt: skip


@kernel
def turned_weights(work, w, inputs, outputs):
    """w[I, O] transposed; itself where it is a column."""
    if outputs == 1:
        return w
    for i in range(inputs):
        for o in range(outputs):
            work[o * inputs + i] = w[i * outputs + o]
    return work


@kernel
def forward_product(y, y_row, x, x_row, w, index, active, identity, rows, inputs, outputs, work):
    """y = x w; ``index`` lists the ``active`` inputs, the others are zero."""
    if outputs <= FEW:
        turned = turned_weights(work, w, inputs, outputs)
        dot_product(y, y_row, x, x_row, turned, inputs, identity, inputs, rows, outputs)
    else:
        outer_product(y, y_row, x, x_row, 1, w, outputs, index, active, rows, outputs, 0)


@kernel
def inputs_product(dx, dx_row, dz, dz_row, w, index, active, identity, rows, inputs, outputs, work):
    """dx = dz w^T; where many outputs let it, only the columns that ``index`` lists."""
    if outputs <= NARROW:
        turned = turned_weights(work, w, inputs, outputs)
        outer_product(dx, dx_row, dz, dz_row, 1, turned, inputs, identity, outputs, rows, inputs, 0)
    else:
        dot_product(dx, dx_row, dz, dz_row, w, outputs, index, outputs, rows, active)


@kernel
def chunk_of(batch, outputs):
    """How many columns of a weight gradient are computed at a time."""
    if outputs == 1:
        return 1
    width = min(CHUNK, SLAB // batch) if batch > 0 else CHUNK  # no batch: no gradient, but penalties
    return min(outputs, max(width // COLUMNS, 1) * COLUMNS)


@kernel
def weights_product(dw, x, x_step, x_row, dz, dz_row, identity, batch, rows, columns):
    """dw[rows, columns] = x^T dz over the batch; x[b, r] stands at x[b x_row + r x_step]."""
    first = 0
    while first == 0 or first < batch:
        depth, more = min(DEPTH, batch - first), 1 if first > 0 else 0
        left, right = at(x, first * x_row), at(dz, first * dz_row)
        outer_product(dw, columns, left, x_step, x_row, right, dz_row, identity, depth, rows, columns, more)
        first += DEPTH


@kernel
def column_product(dw, x, x_row, dz, dz_row, identity, batch, rows):
    """dw[rows] = x^T dz for a single column dz: lanes go along x."""
    first = 0
    while first == 0 or first < batch:
        depth, more = min(DEPTH, batch - first), 1 if first > 0 else 0
        left, right = at(dz, first * dz_row), at(x, first * x_row)
        outer_product(dw, rows, left, 0, dz_row, right, x_row, identity, depth, 1, rows, more)
        first += DEPTH


@kernel
def column_sums(db, dz, dz_row, batch, outputs):
    """db[O] = the sum of dz over the batch."""
    for o in range(outputs):
        db[o] = 0
    for b in range(batch):
        row = at(dz, b * dz_row)
        for o in range(outputs):
            db[o] += row[o]


# ---- inputs that are zero ------------------------------------------------------------------------------------------------
@kernel
def list_active(index, sums, x, x_row, rows, inputs):
    """List in ``index`` the inputs that are not zero in all of the rows; return how many there are."""
    for i in range(inputs):
        sums[i] = 0
    for r in range(rows):
        row = at(x, r * x_row)
        for i in range(inputs):
            sums[i] += abs(row[i])
    count = 0
    for i in range(inputs):
        index[count] = i
        count += 1 if sums[i] != 0 else 0
    return count


@kernel
def pack_columns(panel, x, x_row, index, batch, columns):
    """panel[B, columns] = the columns of x that ``index`` lists."""
    for b in range(batch):
        row = at(x, b * x_row)
        for c in range(columns):
            panel[b * columns + c] = row[index[c]]
