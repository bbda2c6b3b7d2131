"""Every operation of the contract as a Numba CUDA kernel: the twins of the .cu files, written to be read.

What each must compute is gpumlp/backends/numpy_backend.py; how it is launched, gpumlp/backends/numba_backend.py.
B batch, I inputs, O outputs; arrays are C-contiguous float32. Where a launch goes without an array, any other stands in
its place, with a flag of zero. float32 throughout: a plain literal would be a double to Numba and take its whole
expression along, so constants stand here by name. NaN goes through comparisons the way it goes through NumPy.

Three launch geometries:
- elementwise: blocks of THREADS, one element per thread (dropout: eight neighbours).
- by rows: blocks of (lanes, ROW_THREADS / lanes), ``lanes`` a power of two. A group of lanes owns a row and strides
  over its columns; each lane sums in the order of its columns, then `group_sum` adds the lanes by a fixed tree.
- tiles: blocks of TILE x TILE, one element of the product per thread, tiles of rows along the grid's x and of columns
  along its y. Sums run over the inner dimension in order. No atomics: the same input gives the same bits.

A barrier is for all threads of a block, so no thread leaves before the last one; those without work have empty loops.
"""

import math

from numba import cuda, float32, int64, uint64

THREADS = 256
ROW_THREADS = 128
TILE = 16
PITCH = TILE + 1  # of a tile in shared memory: threads that walk down a column then meet different banks

ZERO, HALF, ONE, TWO, THREE = float32(0.0), float32(0.5), float32(1.0), float32(2.0), float32(3.0)
INFINITY, LARGEST, FAR = float32(math.inf), float32(3.4028235e38), float32(1000.0)  # FAR: see gpumlp/activations.py
FUZZ, FUZZ_TOP = float32(1e-7), float32(1.0 - 1e-7)  # Keras clips probabilities to [1e-7, 1 - 1e-7]
ROOT_HALF, DENSITY = float32(math.sqrt(0.5)), float32(1.0 / math.sqrt(2.0 * math.pi))
GELU_SCALE, GELU_CUBE = float32(math.sqrt(2.0 / math.pi)), float32(0.044715)

# The numbers by which gpumlp/backends/device_backend.py names them.
LINEAR, RELU, LEAKY_RELU, ELU, TANH, SIGMOID, GELU, GELU_TANH, SILU, AFFINE = range(10)
SQUARED, ABSOLUTE, HUBER, BINARY, BINARY_LOGITS, CATEGORICAL, CATEGORICAL_LOGITS = range(7)
SQUARED_ERROR, ABSOLUTE_ERROR, BINARY_ACCURACY, CATEGORICAL_ACCURACY, SPARSE_ACCURACY = range(5)


# ---- activations: definitions and sources in gpumlp/activations.py ---------------------------------------------------
@cuda.jit(device=True)
def clip(v, low, high):
    return low if v < low else (high if v > high else v)


@cuda.jit(device=True)
def bounded(z):  # see gpumlp/activations.py
    return clip(z, -LARGEST, LARGEST)


@cuda.jit(device=True)
def sigmoid(z):
    """1 / (1 + exp(-z)), by an exponential that cannot overflow."""
    e = math.exp(-abs(z))
    return e / (ONE + e) if z < ZERO else ONE / (ONE + e)


@cuda.jit(device=True)
def normal_cdf(z):
    return HALF + HALF * math.erf(z * ROOT_HALF)


@cuda.jit(device=True)
def gelu_tanh_cdf(z):
    return HALF + HALF * math.tanh(GELU_SCALE * z * (ONE + GELU_CUBE * z * z))


@cuda.jit(device=True)
def activate(kind, z, a, b):
    """f(z); ``a`` is the constant of leaky_relu and elu, affine is a z + b."""
    if kind == RELU:
        return ZERO if z < ZERO else z
    if kind == LEAKY_RELU:
        return a * z if z < ZERO else z
    if kind == ELU:
        return a * math.expm1(z) if z < ZERO else z
    if kind == TANH:
        return math.tanh(z)
    if kind == SIGMOID:
        return sigmoid(z)
    if kind == GELU:
        return clip(z, -FAR, INFINITY) * normal_cdf(clip(z, -FAR, FAR))
    if kind == GELU_TANH:
        return clip(z, -FAR, INFINITY) * gelu_tanh_cdf(clip(z, -FAR, FAR))
    if kind == SILU:
        return clip(z, -FAR, INFINITY) * sigmoid(z)
    if kind == AFFINE:
        return a * z + b
    return z


@cuda.jit(device=True)
def slope_from_output(kind, y, a):
    """f'(z) where y = f(z) tells it: cheap enough to be computed wherever dy is read."""
    if kind == RELU:
        return ONE if y > ZERO else (ZERO if y == y else y)
    if kind == LEAKY_RELU:
        return ONE if y > ZERO else (a if y == y else y)
    if kind == ELU:
        return ONE if y > ZERO else y + a
    if kind == TANH:
        return ONE - y * y
    if kind == SIGMOID:
        return (ONE - y) * y
    return ONE


@cuda.jit(device=True)
def slope_from_input(kind, z):
    """f'(z) of gelu, gelu_tanh and silu, which need z."""
    z = clip(z, -FAR, FAR)
    if kind == GELU:
        return normal_cdf(z) + z * DENSITY * math.exp(-HALF * z * z)
    if kind == GELU_TANH:
        s = gelu_tanh_cdf(z)
        return s + z * TWO * s * (ONE - s) * GELU_SCALE * (ONE + THREE * GELU_CUBE * z * z)
    return sigmoid(z) * (ONE + z * sigmoid(-z))  # silu: 1 - s would lose what a large z magnifies


# ---- elementwise: arrays of ``count`` elements, flat -----------------------------------------------------------------
@cuda.jit
def take(out, source, rows, count, width):
    """out[r, :] = source[rows[r], :]; out[B, F] of ``count`` elements, source[n, F], rows[B] int64, F = ``width``."""
    e = cuda.grid(1)
    if e < count:
        out[e] = source[rows[e // width] * width + e % width]


@cuda.jit
def activation_forward(y, z, count, kind, a, b):
    """y = f(z); y may be z."""
    e = cuda.grid(1)
    if e < count:
        y[e] = activate(kind, z[e], a, b)


@cuda.jit
def activation_backward(dy, of, count, kind, from_input, a):
    """dy = dy f'(z), in place; ``of`` is z with ``from_input``, else the retained y."""
    e = cuda.grid(1)
    if e < count:
        dy[e] *= slope_from_input(kind, of[e]) if from_input else slope_from_output(kind, of[e], a)


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


# ---- optimizers: elementwise over the flat arena; scalars[2] are the step's rate and decay, computed on the host -----
@cuda.jit
def adam(params, grads, m, v, scalars, count, keep_1, keep_2, epsilon):
    """m += (g - m) keep_1; v += (g^2 - v) keep_2; w = decay w - rate m / (sqrt(v) + epsilon); keep = 1 - beta."""
    e = cuda.grid(1)
    if e < count:
        g = grads[e]
        mean = m[e] + (g - m[e]) * keep_1
        square = v[e] + (g * g - v[e]) * keep_2
        m[e], v[e] = mean, square
        params[e] = scalars[1] * params[e] - scalars[0] * mean / (math.sqrt(square) + epsilon)


@cuda.jit
def sgd(params, grads, u, scalars, count, moving, momentum, nesterov):
    """w = decay w - rate g; ``moving``: u = momentum u - rate g, w = decay w + u (nesterov: + momentum u - rate g)."""
    e = cuda.grid(1)
    if e < count:
        change = -scalars[0] * grads[e]
        if moving:
            speed = momentum * u[e] + change
            u[e] = speed
            change = momentum * speed + change if nesterov else speed
        params[e] = scalars[1] * params[e] + change


@cuda.jit
def rmsprop(params, grads, v, u, mean, scalars, count, moving, centred, keep, momentum, epsilon):
    """v += (g^2 - v) keep; d = rate g / sqrt(v + epsilon); w = decay w - d; keep = 1 - rho.

    ``centred``: mean += (g - mean) keep, v - mean^2 under the root. ``moving``: u = momentum u + d, w = decay w - u.
    """
    e = cuda.grid(1)
    if e < count:
        g = grads[e]
        square = v[e] + (g * g - v[e]) * keep
        v[e] = square
        if centred:
            centre = mean[e] + (g - mean[e]) * keep
            mean[e] = centre
            square -= centre * centre
        change = scalars[0] * (g / math.sqrt(square + epsilon))
        if moving:
            change += momentum * u[e]
            u[e] = change
        params[e] = scalars[1] * params[e] - change


# ---- dense layers: tiles of a product --------------------------------------------------------------------------------
@cuda.jit(device=True)
def element(a, r, c, rows, columns):
    """a[r, c], zero outside."""
    return a[r, c] if r < rows and c < columns else ZERO


@cuda.jit(device=True)
def gradient(dy, y, r, c, rows, columns, kind, slope):
    """dz[r, c] = dy f'(z), zero outside; ``slope`` is the activation's constant."""
    if r >= rows or c >= columns:
        return ZERO
    return dy[r, c] if kind == LINEAR else dy[r, c] * slope_from_output(kind, y[r, c], slope)


@cuda.jit(device=True)
def add_tile(total, left, right):
    """total + sum over k of left[row, k] right[k, column], once the whole block has filled both tiles."""
    cuda.syncthreads()
    for k in range(TILE):
        total += left[cuda.threadIdx.y, k] * right[k, cuda.threadIdx.x]
    cuda.syncthreads()  # read to the end before anyone fills them again
    return total


@cuda.jit
def dense_forward(y, z, x, w, bias, batch, inputs, outputs, keeps, biased, kind, a):
    """z[B, O] = x[B, I] w[I, O] + bias[O], kept if ``keeps``; y[B, O] = f(z). Sums over I."""
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
        y[r, o] = activate(kind, total, a, ZERO)


@cuda.jit
def dense_backward_inputs(dx, dy, w, y, batch, inputs, outputs, kind, a):
    """dx[B, I] = dz[B, O] w[I, O]^T, dz = dy f'(z). Sums over O."""
    left = cuda.shared.array((TILE, PITCH), float32)
    right = cuda.shared.array((TILE, PITCH), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    first = cuda.blockIdx.y * TILE
    r, i = cuda.blockIdx.x * TILE + row, first + column
    total = ZERO
    for k in range(0, outputs, TILE):
        left[row, column] = gradient(dy, y, r, k + column, batch, outputs, kind, a)
        right[column, row] = element(w, first + row, k + column, inputs, outputs)  # along w's rows, as memory lies
        total = add_tile(total, left, right)
    if r < batch and i < inputs:
        dx[r, i] = total


@cuda.jit
def dense_backward_weights(dw, db, dy, x, y, batch, inputs, outputs, biased, kind, a):
    """dw[I, O] = x[B, I]^T dz[B, O]; db[O] = sum of dz, if ``biased``; dz = dy f'(z). Sums over B.

    The bias is the weight of a constant input: x counts as [B, I + 1] with a last column of ones, and row I of the
    product is db.
    """
    left = cuda.shared.array((TILE, PITCH), float32)
    right = cuda.shared.array((TILE, PITCH), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    first = cuda.blockIdx.x * TILE
    i, o = first + row, cuda.blockIdx.y * TILE + column
    total = ZERO
    for k in range(0, batch, TILE):
        one = first + column == inputs  # beyond the batch too, where it meets zeros
        left[column, row] = ONE if one else element(x, k + row, first + column, batch, inputs)
        right[row, column] = gradient(dy, y, k + row, o, batch, outputs, kind, a)
        total = add_tile(total, left, right)
    if o < outputs:
        if i < inputs:
            dw[i, o] = total
        elif i == inputs and biased:
            db[o] = total


# ---- by rows ---------------------------------------------------------------------------------------------------------
@cuda.jit(device=True)
def row_of_group():
    return cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y


@cuda.jit(device=True)
def group_sum(value, memory):
    """The sum of ``value`` over the group's lanes, for each of them; ``memory`` has a place per thread of the block."""
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
def row_max(z, r, end, memory):
    """The largest of z[r, :end], for every lane of the group, NaN passed over: it comes back with its exponential."""
    first, top = cuda.threadIdx.y * cuda.blockDim.x, -INFINITY
    for c in range(cuda.threadIdx.x, end, cuda.blockDim.x):
        top = z[r, c] if z[r, c] > top else top
    memory[first + cuda.threadIdx.x] = top
    cuda.syncthreads()
    for i in range(first, first + cuda.blockDim.x):
        top = memory[i] if memory[i] > top else top
    cuda.syncthreads()
    return top


@cuda.jit
def softmax_forward(y, z, rows, columns):
    """y[r, :] = exp(z[r, :] - max) / sum; y may be z."""
    memory = cuda.shared.array(ROW_THREADS, float32)
    r, lane, lanes = row_of_group(), cuda.threadIdx.x, cuda.blockDim.x
    end = columns if r < rows else 0
    top, total = bounded(row_max(z, r, end, memory)), ZERO
    for c in range(lane, end, lanes):
        total += math.exp(bounded(z[r, c]) - top)
    total = group_sum(total, memory)
    for c in range(lane, end, lanes):
        y[r, c] = math.exp(bounded(z[r, c]) - top) / total


@cuda.jit
def softmax_backward(dy, y, rows, columns):
    """dy[r, :] = (dy - sum(dy y)) y, in place."""
    memory = cuda.shared.array(ROW_THREADS, float32)
    r, lane, lanes = row_of_group(), cuda.threadIdx.x, cuda.blockDim.x
    end, total = columns if r < rows else 0, ZERO
    for c in range(lane, end, lanes):
        total += dy[r, c] * y[r, c]
    total = group_sum(total, memory)
    for c in range(lane, end, lanes):
        dy[r, c] = (dy[r, c] - total) * y[r, c]


@cuda.jit
def penalty(parts, dw, w, count, slopes, l1, l2):
    """parts[block] = the block's share of l1 sum |w| + l2 sum w^2; ``slopes``: dw += l1 sign(w) + 2 l2 w.

    Elements are dealt to threads in turn; a block is one group of THREADS lanes.
    """
    memory = cuda.shared.array(THREADS, float32)
    total = ZERO
    for e in range(cuda.grid(1), count, cuda.gridsize(1)):
        v = w[e]
        total += l1 * abs(v) + l2 * v * v
        if slopes:
            dw[e] += l1 * sign(v) + TWO * l2 * v
    total = group_sum(total, memory)
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = total


# ---- losses: definitions in gpumlp/losses.py -------------------------------------------------------------------------
@cuda.jit(device=True)
def sign(v):
    """-1, 0 or 1; NaN of NaN."""
    return ONE if v > ZERO else (-ONE if v < ZERO else v)


@cuda.jit(device=True)
def elementwise_loss(kind, t, p, c):
    """One output's loss and its slope by p; ``c`` is huber's delta or the label smoothing."""
    error = p - t
    if kind == SQUARED:
        return error * error, TWO * error
    if kind == ABSOLUTE:
        return abs(error), sign(error)
    if kind == HUBER:
        slope = clip(error, -c, c)
        return slope * (error - HALF * slope), slope
    t = t * (ONE - c) + HALF * c
    if kind == BINARY_LOGITS:
        p = bounded(p)
        softplus = math.log1p(math.exp(-abs(p))) + (ZERO if p < ZERO else p)
        return softplus - p * t, math.exp(p - softplus) - t
    q = clip(p, FUZZ, FUZZ_TOP)
    slope = (q - t) / (q * (ONE - q)) * (ONE if p == q else ZERO)
    return -(t * (math.log(q) - math.log(ONE - q)) + math.log(ONE - q)), slope


@cuda.jit(device=True)
def class_target(t, r, c, outputs, sparse, smoothing):
    """The target of class c in sample r, smoothed; t[B, O], or the class numbers t[B, 1] where ``sparse``."""
    target = (ONE if t[r, 0] == float32(c) else ZERO) if sparse else t[r, c]
    return target * (ONE - smoothing) + smoothing / float32(outputs)


@cuda.jit(device=True)
def probability_slope(target, q):
    """The slope of -target log clip(q) by q."""
    inside = clip(q, FUZZ, FUZZ_TOP)
    return -(target / inside) * (ONE if inside == q else ZERO)


@cuda.jit(device=True)
def probabilities_loss(dp, t, p, r, end, factor, sparse, smoothing, memory):
    """The loss of one sample's probabilities: with q = p / sum(p), dp = (dq - sum(dq q)) / sum(p)."""
    lane, lanes = cuda.threadIdx.x, cuda.blockDim.x
    total = ZERO
    for c in range(lane, end, lanes):
        total += p[r, c]
    total = group_sum(total, memory)
    value, pull = ZERO, ZERO
    for c in range(lane, end, lanes):
        q, target = p[r, c] / total, class_target(t, r, c, end, sparse, smoothing)
        value -= target * math.log(clip(q, FUZZ, FUZZ_TOP))
        pull += probability_slope(target, q) * q
    pull = group_sum(pull, memory)
    for c in range(lane, end, lanes):
        slope = probability_slope(class_target(t, r, c, end, sparse, smoothing), p[r, c] / total)
        dp[r, c] = (slope - pull) / total * factor
    return value


@cuda.jit(device=True)
def logits_loss(dp, t, p, r, end, factor, sparse, smoothing, memory):
    """The loss of one sample's logits: dp = softmax(p) sum(t) - t."""
    lane, lanes = cuda.threadIdx.x, cuda.blockDim.x
    top = bounded(row_max(p, r, end, memory))
    total, weight, value = ZERO, ZERO, ZERO
    for c in range(lane, end, lanes):
        total += math.exp(bounded(p[r, c]) - top)
        weight += class_target(t, r, c, end, sparse, smoothing)
    total, weight = group_sum(total, memory), group_sum(weight, memory)
    log_total = math.log(total) if end > 0 else ZERO
    for c in range(lane, end, lanes):
        shifted, target = bounded(p[r, c]) - top, class_target(t, r, c, end, sparse, smoothing)
        value -= target * bounded(shifted - log_total)
        dp[r, c] = (math.exp(shifted) / total * weight - target) * factor
    return value


@cuda.jit
def loss(dp, values, t, p, weights, batch, outputs, weighted, kind, sparse, c):
    """values[B] = each sample's loss times its weight; dp[B, O] = the gradient of sum(values) / B by p[B, O].

    t[B, O], or [B, 1] class numbers where ``sparse``; weights[B] if ``weighted``.
    """
    memory = cuda.shared.array(ROW_THREADS, float32)
    r, lane = row_of_group(), cuda.threadIdx.x
    end = outputs if r < batch else 0
    weight = weights[r] if weighted and r < batch else ONE
    factor, value = weight / float32(batch), ZERO
    if kind == CATEGORICAL:
        value = probabilities_loss(dp, t, p, r, end, factor, sparse, c, memory)
    elif kind == CATEGORICAL_LOGITS:
        value = logits_loss(dp, t, p, r, end, factor, sparse, c, memory)
    else:
        factor, weight = factor / float32(outputs), weight / float32(outputs)
        for o in range(lane, end, cuda.blockDim.x):
            share, slope = elementwise_loss(kind, t[r, o], p[r, o], c)
            value += share
            dp[r, o] = slope * factor
    value = group_sum(value, memory)
    if lane == 0 and r < batch:
        values[r] = value * weight


# ---- metrics: definitions in gpumlp/metrics.py -----------------------------------------------------------------------
@cuda.jit(device=True)
def comes_first(v, at, value, place):
    """Whether NumPy's argmax prefers v at ``at`` to value at ``place`` (-1: none yet): NaN, the larger, the earlier."""
    if place < 0 or (v != v) != (value != value):
        return place < 0 or v != v
    return v > value or (at < place and not v < value)


@cuda.jit(device=True)
def argmax(a, r, end, memory, places):
    """The place of the largest of a[r, :end], for every lane of the group."""
    lane, first = cuda.threadIdx.x, cuda.threadIdx.y * cuda.blockDim.x
    value, place = ZERO, int64(-1)
    for c in range(lane, end, cuda.blockDim.x):
        if comes_first(a[r, c], c, value, place):
            value, place = a[r, c], c
    memory[first + lane], places[first + lane] = value, place
    cuda.syncthreads()
    for i in range(first, first + cuda.blockDim.x):
        if places[i] >= 0 and comes_first(memory[i], places[i], value, place):
            value, place = memory[i], places[i]
    cuda.syncthreads()
    return place


@cuda.jit
def metric(values, counts, t, p, weights, batch, outputs, weighted, kind):
    """values[B] = each sample's metric; if ``weighted``, times its weight, and counts[B] = that weight.

    p[B, O]; t[B, O], or [B, 1] class numbers for the sparse accuracy.
    """
    memory = cuda.shared.array(ROW_THREADS, float32)
    places = cuda.shared.array(ROW_THREADS, int64)
    r, lane = row_of_group(), cuda.threadIdx.x
    end = outputs if r < batch else 0
    value = ZERO
    if kind == SPARSE_ACCURACY:
        guess = argmax(p, r, end, memory, places)
        if end > 0:
            value = ONE if float32(guess) == t[r, 0] else ZERO
    elif kind == CATEGORICAL_ACCURACY:
        guess, truth = argmax(p, r, end, memory, places), argmax(t, r, end, memory, places)
        value = ONE if guess == truth else ZERO
    else:
        for o in range(lane, end, cuda.blockDim.x):
            error = p[r, o] - t[r, o]
            if kind == SQUARED_ERROR:
                value += error * error
            elif kind == ABSOLUTE_ERROR:
                value += abs(error)
            elif (ONE if p[r, o] > HALF else ZERO) == t[r, o]:
                value += ONE
        value = group_sum(value, memory) / float32(outputs)
    if lane == 0 and r < batch:
        values[r] = value * weights[r] if weighted else value
        if weighted:
            counts[r] = weights[r]
