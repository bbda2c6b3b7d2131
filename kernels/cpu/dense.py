"""Dense layers: y[B, O] = x[B, I] w[I, O] + b[O], and its two gradients, over some rows of the batch or of w.

Three products, none of which needs a packed copy of its operands: at the sizes that fit a cache, loads keep up with the
arithmetic as they are, and batches are too thin to repay a copy of the weights.

- forward, x w: outer tiles. Rows of w are read along, 32 columns (with AVX-512) of up to 14 samples stay in registers.
- by the weights, x^T dz: outer tiles, summed over the batch.
- by the inputs, dz w^T: both operands are read along their rows, so dot tiles, 4 x 4 sums of 16 lanes each.

Few outputs would leave most lanes of an outer tile idle, and make a dot tile spend its time on adding up lanes: then w
is transposed first, as far as the batch repays that, and the tiles change places. Which of the forms a layer takes
depends on its shape and the batch's alone, and in each the order of every sum is fixed: so the same numbers come out
for every number of threads and every height of a tile.

A unit whose value is zero in all of a thread's samples (a dead relu; for y = sin(x), half of them and more) needs no
product: ``index`` lists those that do, and the tiles go through the list.
"""

from .layout import CHUNK, NARROW, TURNED_MOST
from .rows import LOWEST
from .vector import COLUMNS, DOT_ROWS, DOT_SUMS, LANES, ROWS, at, dot_tile, kernel, outer_tile, tile_columns, turn_tile

FEW = 4  # outputs up to which dot tiles go forward as well
DEEP = 8  # inputs for each of these, from which on adding up lanes costs less than leaving most of them idle
PART = 64  # samples of which those are computed at a time
SLAB = 131_072  # floats of dz that stay in the second cache while tiles of the weight gradient go over them: 512 KiB
DEPTH = 1024  # samples that are summed at a time
DOT_GROUP = 12  # rows of w that stay in the first cache while tiles go over the samples; both 3 and 4 divide it
TURNS_FOR = 2  # outputs for each sample of the batch, up to which a transposed copy is cheaper than adding up lanes


@kernel
def outer_product(c, c_row, start, start_row, a, a_row, a_step, b, b_step, index, steps, rows, columns, more, least):
    """c[rows, columns] = (start if ``more``) + a b, at least ``least``, as `outer_tile`, of any size."""
    tiles = (rows + ROWS - 1) // ROWS
    widest = tile_columns(rows) if tiles == 1 else COLUMNS  # of several tiles none is so low that it could be wider
    j = 0
    while j < columns:
        width = widest if columns - j >= widest else min(columns - j, LANES)
        for t in range(tiles):
            first, last = rows * t // tiles, rows * (t + 1) // tiles
            outer_tile(
                at(c, first * c_row + j), c_row, at(start, first * start_row + j), start_row, at(a, first * a_row),
                a_row, a_step, at(b, j), b_step, index, steps, last - first, width, more, least,
            )  # fmt: skip
        j += width


@kernel
def dot_product(c, c_row, a, a_row, b, b_row, index, steps, rows, columns):
    """c[:, index] = a b^T, as `dot_tile`, for any number of rows and of columns in the list."""
    tiles = (rows + DOT_ROWS - 1) // DOT_ROWS
    group = DOT_GROUP if tiles > 1 else columns
    j = 0
    while j < columns:
        for t in range(tiles):
            first, last = rows * t // tiles, rows * (t + 1) // tiles
            width = DOT_SUMS // (last - first)
            place = j
            while place < min(j + group, columns):
                count = min(width, j + group - place, columns - place)
                dot_tile(
                    at(c, first * c_row), c_row, at(a, first * a_row), a_row, b, b_row, at(index, place), steps,
                    last - first, count,
                )  # fmt: skip
                place += count
        j += group


@kernel
def turned_weights(work, w, inputs, outputs):
    """w[I, O] transposed; itself where it is a column."""
    if outputs == 1:
        return w
    whole, across = inputs // LANES * LANES, outputs // LANES * LANES
    for i in range(0, whole, LANES):
        for o in range(0, across, LANES):
            turn_tile(at(work, o * inputs + i), inputs, at(w, i * outputs + o), outputs)
    for i in range(inputs):
        for o in range(across if i < whole else 0, outputs):
            work[o * inputs + i] = w[i * outputs + o]
    return work


@kernel
def forward_product(
    y, y_row, bias, biased, x, x_row, w, index, active, identity, rows, inputs, outputs, least, work
):  # fmt: skip
    """y = x w + bias, at least ``least``; ``index`` lists the ``active`` inputs, the others are zero."""
    if outputs > FEW or inputs <= DEEP * outputs:
        more = 1 if biased else 0
        outer_product(
            y, y_row, bias, 0, x, x_row, 1, w, outputs, index, active, rows, outputs, more, least
        )  # fmt: skip
        return
    # the rows of w^T against those of x: y^T comes out, some samples at a time
    turned, part = turned_weights(at(work, FEW * PART), w, inputs, outputs), 0
    for first in range(0, rows, PART):
        part = min(PART, rows - first)
        dot_product(work, PART, turned, inputs, at(x, first * x_row), x_row, identity, inputs, outputs, part)
        for r in range(part):
            for o in range(outputs):
                value = work[o * PART + r]
                if biased:
                    value += bias[o]
                y[(first + r) * y_row + o] = least if value < least else value


@kernel
def inputs_product(dx, dx_row, dz, dz_row, w, index, active, identity, rows, inputs, outputs, batch, work):
    """dx = dz w^T; where w is not transposed for it, only the columns that ``index`` lists."""
    if outputs == 1 or (outputs <= max(NARROW, TURNS_FOR * batch) and inputs * outputs <= TURNED_MOST):
        turned = turned_weights(work, w, inputs, outputs)
        outer_product(
            dx, dx_row, dx, 0, dz, dz_row, 1, turned, inputs, identity, outputs, rows, inputs, 0, LOWEST
        )  # fmt: skip
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
        outer_product(
            dw, columns, dw, columns, left, x_step, x_row, right, dz_row, identity, depth, rows, columns, more, LOWEST
        )
        first += DEPTH


@kernel
def column_sums(db, dz, dz_row, batch, outputs):
    """db[O] = the sum of dz over the batch, eight samples at a time."""
    for o in range(outputs):
        db[o] = 0
    whole = batch // 8 * 8
    for b in range(0, whole, 8):
        row, half = at(dz, b * dz_row), at(dz, (b + 4) * dz_row)
        for o in range(outputs):
            low = (row[o] + row[dz_row + o]) + (row[2 * dz_row + o] + row[3 * dz_row + o])
            high = (half[o] + half[dz_row + o]) + (half[2 * dz_row + o] + half[3 * dz_row + o])
            db[o] += low + high
    for b in range(whole, batch):
        row = at(dz, b * dz_row)
        for o in range(outputs):
            db[o] += row[o]


# ---- inputs that are zero --------------------------------------------------------------------------------------------
@kernel
def mark_active(sums, x, x_row, rows, inputs):
    """sums[I] = the sums of |x| over the rows: zero for an input that is zero in all of them."""
    for i in range(inputs):
        sums[i] = 0
    for r in range(rows):
        row = at(x, r * x_row)
        for i in range(inputs):
            sums[i] += abs(row[i])


@kernel
def list_active(index, sums, sums_row, rows, inputs):
    """List in ``index`` the inputs for which one of the rows of sums is not zero; return how many there are."""
    count = 0
    for i in range(inputs):
        index[count] = i
        used = False
        for r in range(rows):
            used |= sums[r * sums_row + i] != 0
        count += 1 if used else 0
    return count


@kernel
def pack_columns(panel, x, x_row, index, batch, columns):
    """panel[B, columns] = the columns of x that ``index`` lists."""
    for b in range(batch):
        row = at(x, b * x_row)
        for c in range(columns):
            panel[b * columns + c] = row[index[c]]
