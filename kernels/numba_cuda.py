"""Every operation of the contract as a Numba CUDA kernel: the twins of the .cu files, written to be read.

What each must compute is gpumlp/backends/numpy_backend.py; how it is launched, gpumlp/backends/numba_backend.py.
B batch, I inputs, O outputs; arrays are C-contiguous float32. Where a launch goes without an array, any other stands in
its place, with a flag of zero. float32 throughout: a plain literal would be a double to Numba and take its whole
expression along, so constants stand here by name. NaN goes through comparisons the way it goes through NumPy.

Formulas (activations, losses, metrics, updates, penalties) are not here: gpumlp/backends/writer.py writes them as
device functions, of the names in the first two sections. A kernel that has one is made by a function that takes it, and
gets the formula's ``numbers`` as a tuple.

Three launch geometries:
- elementwise: blocks of THREADS, one element per thread (dropout: eight neighbours).
- by rows: blocks of (lanes, ROW_THREADS / lanes), ``lanes`` a power of two. A group of lanes owns a row and strides
  over its columns; each lane sums in the order of its columns, then `group_sum` adds the lanes by a fixed tree.
- tiles: blocks of TILE x TILE, one element of the product per thread, tiles of rows along the grid's x and of columns
  along its y. Sums run over the inner dimension in order. No atomics: the same input gives the same bits.

A barrier is for all threads of a block, so no thread leaves before the last one; those without work have empty loops.
"""

import math
from math import cos, erf, exp, expm1, log, log1p, pow, sin, sqrt, tanh  # noqa: F401  # formulas have them from here

from numba import cuda, float32, int64, uint64

THREADS = 256
ROW_THREADS = 128
TILE = 16
PITCH = TILE + 1  # of a tile in shared memory: threads that walk down a column then meet different banks

ZERO, ONE = float32(0.0), float32(1.0)
INFINITY, NAN, LARGEST = float32(math.inf), float32(math.nan), float32(3.4028235e38)
WHOLE = float32(2.0**23)  # from here on every float32 is a whole number


# ---- what formulas are written in: of one number ---------------------------------------------------------------------
@cuda.jit(device=True)
def maximum(a, b):
    return b if a <= b or b != b else a


@cuda.jit(device=True)
def minimum(a, b):
    return b if a >= b or b != b else a


@cuda.jit(device=True)
def clip(v, low, high):
    return low if v < low else (high if v > high else v)


@cuda.jit(device=True)
def sign(v):
    """-1, 0 or 1; NaN of NaN."""
    return ONE if v > ZERO else (-ONE if v < ZERO else v)


@cuda.jit(device=True)
def step(v):
    """1 above 0, else 0; NaN of NaN."""
    return ONE if v > ZERO else (ZERO if v == v else v)


@cuda.jit(device=True)
def floor(v):
    return float32(math.floor(v)) if abs(v) < WHOLE else v


@cuda.jit(device=True)
def sigmoid(z):
    """1 / (1 + exp(-z)), by an exponential that cannot overflow."""
    e = exp(-abs(z))
    return e / (ONE + e) if z < ZERO else ONE / (ONE + e)


@cuda.jit(device=True)
def softplus(z):
    """log(1 + exp(z)), by the same exponential."""
    return log1p(exp(-abs(z))) + maximum(z, ZERO)


# ---- and of a row, by the lanes of its group; ``memory`` and ``places`` have a place per thread of the block ---------
@cuda.jit(device=True)
def group_sum(value, memory):
    """The sum of ``value`` over the group's lanes, for each of them."""
    lane = cuda.threadIdx.x
    place = cuda.threadIdx.y * cuda.blockDim.x + lane
    memory[place] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if lane < half:
            memory[place] += memory[place + half]
        cuda.syncthreads()
        half //= 2
    total = memory[place - lane]
    cuda.syncthreads()  # read by all before the next sum is begun
    return total


@cuda.jit(device=True)
def group_max(value, memory):
    """The largest ``value`` of the group's lanes, for each of them."""
    first = cuda.threadIdx.y * cuda.blockDim.x
    memory[first + cuda.threadIdx.x] = value
    cuda.syncthreads()
    for i in range(first, first + cuda.blockDim.x):
        value = maximum(value, memory[i])
    cuda.syncthreads()
    return value


@cuda.jit(device=True)
def first_of(value, place, v, at):
    """The one that NumPy's argmax prefers: NaN, the larger, the earlier; ``place`` -1: there is none yet."""
    if place < 0 or (v != v) != (value != value):
        better = place < 0 or v != v
    else:
        better = v > value or (at < place and not v < value)
    return (v, at) if better else (value, place)


@cuda.jit(device=True)
def group_argmax(value, place, memory, places):
    """The place of the best ``value`` of the group's lanes, for each of them."""
    first = cuda.threadIdx.y * cuda.blockDim.x
    memory[first + cuda.threadIdx.x], places[first + cuda.threadIdx.x] = value, place
    cuda.syncthreads()
    for i in range(first, first + cuda.blockDim.x):
        if places[i] >= 0:
            value, place = first_of(value, place, memory[i], places[i])
    cuda.syncthreads()
    return place


# ---- elementwise: arrays of ``count`` elements, flat -----------------------------------------------------------------
@cuda.jit
def take(out, source, rows, count, width):
    """out[r, :] = source[rows[r], :]; out[B, F] of ``count`` elements, source[n, F], rows[B] int64, F = ``width``."""
    e = cuda.grid(1)
    if e < count:
        out[e] = source[rows[e // width] * width + e % width]


@cuda.jit
def affine(y, x, count, scale, offset):
    """y = scale x + offset; y may be x."""
    e = cuda.grid(1)
    if e < count:
        y[e] = scale * x[e] + offset


def activation_forward(activate):
    """y = f(z) by ``activate``(z, *numbers); y may be z."""

    @cuda.jit
    def activation_forward(y, z, count, numbers):
        e = cuda.grid(1)
        if e < count:
            y[e] = activate(z[e], *numbers)

    return activation_forward


def activation_backward(back):
    """dy becomes dz by ``back``(dy, y, z, *numbers), in place."""

    @cuda.jit
    def activation_backward(dy, y, z, count, numbers):
        e = cuda.grid(1)
        if e < count:
            dy[e] = back(dy[e], y[e], z[e], *numbers)

    return activation_backward


@cuda.jit
def multiply(y, mask, count):
    """y = y mask, in place: dropout's way back."""
    e = cuda.grid(1)
    if e < count:
        y[e] *= mask[e]


# ---- dropout ---------------------------------------------------------------------------------------------------------

# Philox4x64-10's multipliers and the steps of its keys. Everything is made of 32-bit halves: no operation here passes
# 2^64, so that Python runs it to the same bits, and no 64-bit high multiplication is asked of the compiler.
BITS = uint64(32)
LOW = uint64(0xFFFFFFFF)
MULTIPLIER_0, MULTIPLIER_1 = uint64(0xD2E7470EE14C6C93), uint64(0xCA5A826395121157)
WEYL_0, WEYL_1 = uint64(0x9E3779B97F4A7C15), uint64(0xBB67AE8584CAA73B)
UNIFORM = float32(2.0**-24)


@cuda.jit(device=True)
def add64(a, b):
    """(a + b) mod 2^64."""
    low = (a & LOW) + (b & LOW)
    high = (a >> BITS) + (b >> BITS) + (low >> BITS)
    return ((high & LOW) << BITS) | (low & LOW)


@cuda.jit(device=True)
def multiply64(a, b):
    """The high and the low 64 bits of a b."""
    a0, a1, b0, b1 = a & LOW, a >> BITS, b & LOW, b >> BITS
    bottom = a0 * b0
    middle = a1 * b0 + (bottom >> BITS)
    cross = a0 * b1 + (middle & LOW)
    return a1 * b1 + (middle >> BITS) + (cross >> BITS), ((cross & LOW) << BITS) | (bottom & LOW)


@cuda.jit(device=True)
def philox(words, key_0, key_1):
    """Turn the counter in words[4] into Philox4x64-10's four random words (Salmon et al. 2011)."""
    for _ in range(10):
        high_0, low_0 = multiply64(MULTIPLIER_0, words[0])
        high_1, low_1 = multiply64(MULTIPLIER_1, words[2])
        words[0] = high_1 ^ words[1] ^ key_0
        words[1] = low_1
        words[2] = high_0 ^ words[3] ^ key_1
        words[3] = low_0
        key_0, key_1 = add64(key_0, WEYL_0), add64(key_1, WEYL_1)


@cuda.jit
def dropout(y, mask, x, count, key, layer, step, rate, scale):
    """mask = 0 with probability ``rate``, else ``scale`` = 1 / (1 - rate); y = x mask. key, layer, step uint64.

    At key (key, layer) and counter (block + 1, step, 0, 0), four words give eight 24-bit uniforms, low half first: bit
    for bit what numpy.random.Philox gives the NumPy backend. One thread makes such a block of eight neighbours.
    """
    block = cuda.grid(1)
    if block * 8 < count:
        words = cuda.local.array(4, uint64)
        words[0] = uint64(block + 1)
        words[1] = step
        words[2] = words[3] = uint64(0)
        philox(words, key, layer)
        for i in range(8):
            e = block * 8 + i
            if e < count:
                half = (words[i // 2] >> uint64(i % 2 * 32)) & LOW
                keep = scale if float32(half >> uint64(8)) * UNIFORM >= rate else ZERO
                mask[e] = keep
                y[e] = x[e] * keep


# ---- optimizers: elementwise over the flat arena; scalars are what differs from step to step, computed on the host ---
def update(update_element):
    """Weights and slots, a tuple of arrays, by ``update_element``(e, params, grads, slots, scalars, numbers)."""

    @cuda.jit
    def update(params, grads, slots, scalars, count, numbers):
        e = cuda.grid(1)
        if e < count:
            update_element(e, params, grads, slots, scalars, numbers)

    return update


# ---- dense layers: tiles of a product --------------------------------------------------------------------------------
@cuda.jit(device=True)
def element(a, r, c, rows, columns):
    """a[r, c], zero outside."""
    return a[r, c] if r < rows and c < columns else ZERO


def gradient(back):
    """dz[r, c], zero outside, by ``back``(dy, y, z, *numbers), of which z is not read."""

    @cuda.jit(device=True)
    def gradient(dy, y, r, c, rows, columns, numbers):
        return back(dy[r, c], y[r, c], y[r, c], *numbers) if r < rows and c < columns else ZERO

    return gradient


@cuda.jit(device=True)
def add_tile(total, left, right):
    """total + sum over k of left[row, k] right[k, column], once the whole block has filled both tiles."""
    cuda.syncthreads()
    for k in range(TILE):
        total += left[cuda.threadIdx.y, k] * right[k, cuda.threadIdx.x]
    cuda.syncthreads()  # read to the end before anyone fills them again
    return total


def dense_forward(activate):
    """z[B, O] = x[B, I] w[I, O] + bias[O], kept if ``keeps``; y[B, O] = f(z). Sums over I."""

    @cuda.jit
    def dense_forward(y, z, x, w, bias, batch, inputs, outputs, keeps, biased, numbers):
        left = cuda.shared.array((TILE, PITCH), float32)
        right = cuda.shared.array((TILE, PITCH), float32)
        row, column = cuda.threadIdx.y, cuda.threadIdx.x
        r, o = cuda.blockIdx.x * TILE + row, cuda.blockIdx.y * TILE + column
        total = ZERO
        for k in range(0, inputs, TILE):
            left[row, column] = element(x, r, k + column, batch, inputs)
            right[row, column] = element(w, k + row, o, inputs, outputs)
            total = add_tile(total, left, right)
        if r < batch and o < outputs:
            if biased:
                total += bias[o]
            if keeps:
                z[r, o] = total
            y[r, o] = activate(total, *numbers)

    return dense_forward


def dense_backward_inputs(back):
    """dx[B, I] = dz[B, O] w[I, O]^T; dz as in `gradient`, wherever dy is read. Sums over O."""
    dz = gradient(back)

    @cuda.jit
    def dense_backward_inputs(dx, dy, w, y, batch, inputs, outputs, numbers):
        left = cuda.shared.array((TILE, PITCH), float32)
        right = cuda.shared.array((TILE, PITCH), float32)
        row, column = cuda.threadIdx.y, cuda.threadIdx.x
        first = cuda.blockIdx.y * TILE
        r, i = cuda.blockIdx.x * TILE + row, first + column
        total = ZERO
        for k in range(0, outputs, TILE):
            left[row, column] = dz(dy, y, r, k + column, batch, outputs, numbers)
            right[column, row] = element(w, first + row, k + column, inputs, outputs)  # along w's rows, as memory lies
            total = add_tile(total, left, right)
        if r < batch and i < inputs:
            dx[r, i] = total

    return dense_backward_inputs


def dense_backward_weights(back):
    """dw[I, O] = x[B, I]^T dz[B, O]; db[O] = sum of dz, if ``biased``; dz as in `gradient`. Sums over B.

    The bias is the weight of a constant input: x counts as [B, I + 1] with a last column of ones, and row I of the
    product is db.
    """
    dz = gradient(back)

    @cuda.jit
    def dense_backward_weights(dw, db, dy, x, y, batch, inputs, outputs, biased, numbers):
        left = cuda.shared.array((TILE, PITCH), float32)
        right = cuda.shared.array((TILE, PITCH), float32)
        row, column = cuda.threadIdx.y, cuda.threadIdx.x
        first = cuda.blockIdx.x * TILE
        i, o = first + row, cuda.blockIdx.y * TILE + column
        total = ZERO
        for k in range(0, batch, TILE):
            one = first + column == inputs  # beyond the batch too, where it meets zeros
            left[column, row] = ONE if one else element(x, k + row, first + column, batch, inputs)
            right[row, column] = dz(dy, y, k + row, o, batch, outputs, numbers)
            total = add_tile(total, left, right)
        if o < outputs:
            if i < inputs:
                dw[i, o] = total
            elif i == inputs and biased:
                db[o] = total

    return dense_backward_weights


# ---- by rows: ``row`` is a lane's part of a row function, as gpumlp/backends/writer.py has it ------------------------
@cuda.jit(device=True)
def row_of_group():
    return cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y


def rows_forward(row):
    """y[r, :] of z[r, :]; y may be z, unless columns of it are read."""

    @cuda.jit
    def rows_forward(y, z, rows, columns, numbers):
        memory = cuda.shared.array(ROW_THREADS, float32)
        places = cuda.shared.array(ROW_THREADS, int64)
        r = row_of_group()
        end = columns if r < rows else 0
        row(y, z, r, columns, end, cuda.threadIdx.x, cuda.blockDim.x, memory, places, *numbers)

    return rows_forward


def rows_backward(row):
    """dy[r, :] becomes dz[r, :], of y[r, :] and z[r, :]."""

    @cuda.jit
    def rows_backward(dy, y, z, rows, columns, numbers):
        memory = cuda.shared.array(ROW_THREADS, float32)
        places = cuda.shared.array(ROW_THREADS, int64)
        r = row_of_group()
        end = columns if r < rows else 0
        row(dy, y, z, r, columns, end, cuda.threadIdx.x, cuda.blockDim.x, memory, places, *numbers)

    return rows_backward


def loss(row):
    """values[B] = each sample's loss times its weight; dp[B, O] = the gradient of sum(values) / B by p[B, O].

    t[B, O], or [B, 1] where there is one a sample; weights[B] if ``weighted``.
    """

    @cuda.jit
    def loss(dp, values, t, p, weights, batch, outputs, weighted, numbers):
        memory = cuda.shared.array(ROW_THREADS, float32)
        places = cuda.shared.array(ROW_THREADS, int64)
        r, lane, lanes = row_of_group(), cuda.threadIdx.x, cuda.blockDim.x
        end = outputs if r < batch else 0
        weight = weights[r] if weighted and r < batch else ONE
        factor = weight / float32(batch)
        value = row(dp, t, p, factor, r, outputs, end, lane, lanes, memory, places, *numbers)
        if lane == 0 and r < batch:
            values[r] = value * weight

    return loss


def metric(row):
    """values[B] = a sum of each sample's metric; if ``weighted``, times its weight, and counts[B] = that weight."""

    @cuda.jit
    def metric(values, counts, t, p, weights, batch, outputs, weighted, numbers):
        memory = cuda.shared.array(ROW_THREADS, float32)
        places = cuda.shared.array(ROW_THREADS, int64)
        r, lane, lanes = row_of_group(), cuda.threadIdx.x, cuda.blockDim.x
        end = outputs if r < batch else 0
        value = row(t, p, r, outputs, end, lane, lanes, memory, places, *numbers)
        if lane == 0 and r < batch:
            values[r] = value * weights[r] if weighted else value
            if weighted:
                counts[r] = weights[r]

    return metric


def penalty(row):
    """parts[block] = a block's part of the penalty of w[1, count]; ``row`` may add its gradient to dw[1, count].

    A block is one group of THREADS lanes. Elements are dealt to all threads of the grid in turn: so a penalty of which
    parts cannot be added has one block.
    """

    @cuda.jit
    def penalty(parts, dw, w, count, numbers):
        memory = cuda.shared.array(THREADS, float32)
        places = cuda.shared.array(THREADS, int64)
        value = row(dw, w, 0, count, count, cuda.grid(1), cuda.gridsize(1), memory, places, *numbers)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.x] = value

    return penalty
