"""Dense layers: y[B, O] = x[B, I] w[I, O] + b[O], and its two gradients, over some rows of the batch or of w.

Three products, by outer tiles, in which some rows of sums stay in registers while a column of the left operand meets
rows of the right one:

- forward, x w: rows of w are read along, 32 columns (with AVX-512) of up to 14 samples at a time.
- by the weights, x^T dz: summed over the batch.
- by the inputs, dz w^T: w is transposed for it, panel by panel. For few samples that is not worth it: both operands are
  read along their rows, by dot tiles, 4 x 4 sums of 16 lanes each.

Tiles of few samples, and of layers that fit a core's caches, read both operands where they stand: copies would cost
more than they save. Otherwise what is read again and again would be pushed out of the caches, or never fit: rows 4 KiB
apart all want the same few places of the first one. So `packed_product` goes through copies: some STEPS of the sums at
a time, a panel of the right operand, as wide as a tile, lies side by side in the first cache while all tiles of a block
of rows go over it, and a block of the left one lies in the second. A sum is carried on from part to part, in order;
bias, which may be far larger, and relu come with the last part.

Up to four outputs would leave most lanes of an outer tile idle: then dot tiles go forward too, over w transposed.

Which form dz w^T takes depends on the layer's shape and the batch's alone, and in each the order of every sum is fixed;
the sums of the others have one order in all forms. So the same numbers come out for every number of threads and every
height of a tile.

A unit whose value is zero in all of a thread's samples (a dead relu; for y = sin(x), half of them and more) needs no
product: ``index`` lists those that do, and the tiles, or the copies, go through the list.
"""

from .layout import BLOCK, CHUNK, FEW, PACKED, PACKED_CHUNK, PANEL, PART
from .rows import LOWEST, copy
from .vector import (
    COLUMNS,
    DOT_ROWS,
    DOT_SUMS,
    LANES,
    ROWS,
    at,
    dot_tile,
    kernel,
    move,
    outer_tile,
    tile_columns,
    turn_tile,
)  # fmt: skip

DEEP = 8  # inputs for each output up to FEW, from which on adding up lanes costs less than leaving most of them idle
SLAB = 131_072  # floats of dz that stay in the second cache while tiles of the weight gradient go over them: 512 KiB
DEPTH = 1024  # samples that are summed at a time
DOT_GROUP = 12  # rows of w that stay in the first cache while tiles go over the samples; both 3 and 4 divide it
# Samples, and weights, from which on copies repay themselves in x w and x^T dz: with AVX-512, what leaves the caches.
MANY, LARGE = 64, 524_288 if LANES == 16 else 65_536
TURNS, NARROW = 32, 32  # samples from which on they do in dz w^T; outputs up to which they always do
STEPS = min(PANEL // COLUMNS, 256)  # of a sum, for which operands are packed at a time
FORWARD, BACK, WEIGHTS = range(3)  # whose product it is


@kernel
def share_of(begin, end, t, shares):
    """Where the t-th of so many shares of ``begin`` to ``end`` - 1 begins, and how many it has."""
    first = begin + (end - begin) * t // shares
    return first, begin + (end - begin) * (t + 1) // shares - first


@kernel
def outer_product(c, c_row, bias, a, a_row, a_step, b, b_step, index, steps, rows, columns, more, biased, least):
    """c[rows, columns] = (c if ``more``) + a b + (bias if ``biased``), at least ``least``, as `outer_tile`."""
    tiles = (rows + ROWS - 1) // ROWS
    widest = tile_columns(rows) if tiles == 1 else COLUMNS  # of several tiles none is so low that it could be wider
    j = 0
    while j < columns:
        width = widest if columns - j >= widest else min(columns - j, LANES)
        for t in range(tiles):
            first, last = rows * t // tiles, rows * (t + 1) // tiles
            outer_tile(
                at(c, first * c_row + j), c_row, at(bias, j), at(a, first * a_row), a_row, a_step, at(b, j), b_step,
                index, steps, last - first, width, more, biased, least,
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
def packs(samples, inputs, outputs):
    """Whether x w and x^T dz of such a layer are made of packed copies: which changes no bit of them."""
    return samples >= MANY and outputs > FEW and inputs * outputs >= LARGE


@kernel
def side_by_side(index, count):
    """Whether what a list has stands side by side."""
    return count > 0 and index[count - 1] - index[0] == count - 1


@kernel
def pack_columns(block, x, x_row, index, rows, columns):
    """block[rows, columns] = the columns of x that ``index`` lists."""
    whole = side_by_side(index, columns)
    for r in range(rows):
        row = at(x, r * x_row)
        if whole:
            copy(at(block, r * columns), at(row, index[0]), columns)
        else:
            for c in range(columns):
                block[r * columns + c] = row[index[c]]


@kernel
def pack_rows(panel, b, b_row, index, rows, columns):
    """panel[rows, COLUMNS] = the rows of b that ``index`` lists, of which ``columns`` are meant."""
    for k in range(rows):
        row = at(b, index[k] * b_row)
        if columns == COLUMNS:
            move(at(panel, k * COLUMNS), row)
        else:
            copy(at(panel, k * COLUMNS), row, columns)


@kernel
def pack_turned(panel, b, b_row, index, rows, columns):
    """panel[rows, COLUMNS] = the rows of b that ``index`` lists, transposed; ``columns`` are meant."""
    whole, across = rows // LANES * LANES, columns // LANES * LANES
    for j in range(0, across, LANES):
        for k in range(0, whole, LANES):
            turn_tile(at(panel, k * COLUMNS + j), COLUMNS, at(b, k), b_row, at(index, j))
    for j in range(columns):
        for k in range(whole if j < across else 0, rows):
            panel[k * COLUMNS + j] = b[index[j] * b_row + k]


@kernel
def packed_product(
    form, c, c_row, bias, a, a_row, b, b_row, index, identity, steps, rows, columns, biased, least, work
):  # fmt: skip
    """c[rows, columns] = the product of ``form`` + (bias if ``biased``), at least ``least``, as `outer_tile`.

    FORWARD: a b, of those columns of a, and rows of b, that ``index`` lists; BACK: a b^T, of those rows of b; WEIGHTS:
    a^T b, of those columns of a.
    """
    panel, block, used = work, at(work, PANEL), identity if form == BACK else index
    most = PACKED // STEPS
    blocks, parts = (rows + most - 1) // most, max((steps + STEPS - 1) // STEPS, 1)
    for t in range(blocks):
        row, height = share_of(0, rows, t, blocks)
        for p in range(parts):
            step, depth = share_of(0, steps, p, parts)
            left, left_row, left_step = block, depth, 1
            if form == WEIGHTS:
                pack_columns(block, at(a, step * a_row), a_row, at(index, row), depth, height)
                left_row, left_step = 1, height
            elif parts == 1 and side_by_side(used, depth):  # rows are short, and so near each other as they are
                left, left_row = at(a, row * a_row + used[0]), a_row
            else:
                pack_columns(block, at(a, row * a_row), a_row, at(used, step), height, depth)
            for j in range(0, columns, COLUMNS):
                width, place = min(COLUMNS, columns - j), at(c, row * c_row + j)
                if form == BACK:
                    pack_turned(panel, at(b, step), b_row, at(index, j), depth, width)
                else:
                    pack_rows(panel, at(b, j), b_row, at(identity if form == WEIGHTS else index, step), depth, width)
                last = p == parts - 1
                outer_product(
                    place, c_row, at(bias, j), left, left_row, left_step, panel, COLUMNS, identity, depth, height,
                    width, 1 if p > 0 else 0, biased if last else 0, least if last else LOWEST,
                )  # fmt: skip


@kernel
def turned_weights(work, w, inputs, outputs):
    """w[I, O] transposed; itself where it is a column."""
    if outputs == 1:
        return w
    for o in range(outputs):
        for i in range(inputs):
            work[o * inputs + i] = w[i * outputs + o]
    return work


@kernel
def forward_product(
    y, y_row, bias, biased, x, x_row, w, index, active, identity, rows, inputs, outputs, least, work
):  # fmt: skip
    """y = x w + bias, at least ``least``; ``index`` lists the ``active`` inputs, the others are zero."""
    if outputs > FEW or inputs <= DEEP * outputs:
        added = 1 if biased else 0
        if packs(rows, inputs, outputs):
            packed_product(
                FORWARD, y, y_row, bias, x, x_row, w, outputs, index, identity, active, rows, outputs, added, least,
                work,
            )  # fmt: skip
            return
        outer_product(
            y, y_row, bias, x, x_row, 1, w, outputs, index, active, rows, outputs, 0, added, least
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
def spread(c, c_row, index, rows, active, columns):
    """Put the first ``active`` columns of c[rows, columns] where ``index`` says, and zeros in between."""
    for r in range(rows):
        row, end = at(c, r * c_row), columns
        for a in range(active - 1, -1, -1):  # from the last on, so that none is overwritten before it has moved
            place = index[a]
            row[place] = row[a]
            for j in range(place + 1, end):
                row[j] = 0
            end = place
        for j in range(end):
            row[j] = 0


@kernel
def inputs_product(dx, dx_row, dz, dz_row, w, index, active, identity, rows, inputs, outputs, batch, work):
    """dx = dz w^T, of the columns that ``index`` lists; the others stay what they are, or become zero."""
    if outputs == 1:
        outer_product(
            dx, dx_row, dx, dz, dz_row, 1, w, inputs, identity, outputs, rows, inputs, 0, 0, LOWEST
        )  # fmt: skip
    elif batch >= TURNS or outputs <= NARROW:
        packed_product(
            BACK, dx, dx_row, dx, dz, dz_row, w, outputs, index, identity, outputs, rows, active, 0, LOWEST, work
        )  # fmt: skip
        if active < inputs:
            spread(dx, dx_row, index, rows, active, inputs)
    else:
        dot_product(dx, dx_row, dz, dz_row, w, outputs, index, outputs, rows, active)


@kernel
def block_of(batch, inputs, outputs):
    """How many rows and columns of a weight gradient are computed, and used up, at a time."""
    if packs(batch, inputs, outputs):
        return PACKED // PACKED_CHUNK, min(outputs, PACKED_CHUNK)
    width = min(CHUNK, SLAB // batch) if batch > 0 else CHUNK  # no batch: no gradient, but penalties
    if outputs == 1:
        return CHUNK, 1
    return BLOCK, min(outputs, max(width // COLUMNS, 1) * COLUMNS)


@kernel
def weights_product(dw, x, x_step, x_row, dz, dz_row, identity, batch, rows, columns):
    """dw[rows, columns] = x^T dz over the batch; x[b, r] stands at x[b x_row + r x_step]."""
    first = 0
    while first == 0 or first < batch:
        depth, more = min(DEPTH, batch - first), 1 if first > 0 else 0
        left, right = at(x, first * x_row), at(dz, first * dz_row)
        outer_product(
            dw, columns, dw, left, x_step, x_row, right, dz_row, identity, depth, rows, columns, more, 0, LOWEST
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
