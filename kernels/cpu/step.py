"""Training steps as one compiled call, run by several threads together: `run`. Its table of words: layout.py.

`run_many` runs several such jobs in one call, each by one thread.

Each thread takes some rows of the batch through the whole network, forward, loss and back: no layer waits for another
thread. Then all meet, and each thread updates some rows of every weight array, from gradients that it sums over the
batch right there; then all meet again. A long batch of a small network goes in slices: a thread takes one after the
other through the network, through the same memory, which stays in its cache, and sums the slice's gradients; after the
meeting those of all slices are added, in order. Where slices begin depends on the batch alone. So a step has two
barriers, whatever the network's depth, and four more for each batch normalization: before and after its columns, each
of which is one thread's. A prediction has none, except before a last batch that is short. Every number is computed by
one thread in an order that the shapes alone fix: the result is the same for any number of threads.
"""

from numba import float32, int32

from . import layout as L
from .dense import (
    WEIGHTS,
    block_of,
    column_sums,
    forward_product,
    inputs_product,
    list_active,
    mark_active,
    pack_columns,
    packed_product,
    packs,
    share_of,
    weights_product,
)  # fmt: skip
from .norm import (
    batch_slope,
    batch_statistics,
    centre,
    column_gradients,
    fixed_slope,
    scaled,
    standardize,
)  # fmt: skip
from .rows import LOWEST, ONE, ZERO, any_bad, clear, copy, drop, multiply, scale
from .vector import (
    COLUMNS,
    arrive,
    at,
    call_code,
    call_entry,
    doubles,
    fetch,
    floats,
    flush_denormals,
    kernel,
    meet,
    restore_modes,
    words,
)  # fmt: skip

NEAR = 128  # samples of a batch, up to which those of the next are asked for as these are gathered
slices_of = kernel(L.slices_of)


@kernel
def record(job, i):
    """The record of operation i."""
    return at(job, job[L.OPS_AT] + i * L.OP_WORDS)


# ---- the way forward: rows ``first`` to ``last`` - 1 of the batch ----------------------------------------------------
@kernel
def gather(job, x, x_row, batch_start, first, last):
    """Copy the samples of some rows to where the first operation reads, and what belongs to them."""
    ahead = job[L.BATCH] if job[L.BATCH] <= NEAR else NEAR // 4  # rows that this thread will gather, most likely
    for r in range(first, last):
        sample = batch_start + r
        if job[L.ORDER] != 0:
            later = words(job[L.ORDER])[min(sample + ahead, job[L.SAMPLES] - 1)]
            fetch(at(floats(job[L.X]), later * job[L.X_WIDTH]))
            fetch(at(floats(job[L.X]), (later + 1) * job[L.X_WIDTH] - 1))
            if job[L.PHASES] & L.OBJECTIVE:
                fetch(at(floats(job[L.Y]), later * job[L.Y_WIDTH]))
            sample = words(job[L.ORDER])[sample]
        copy(at(x, r * x_row), at(floats(job[L.X]), sample * job[L.X_WIDTH]), job[L.X_WIDTH])
        if job[L.PHASES] & L.OBJECTIVE:
            width = job[L.Y_WIDTH]
            copy(at(floats(job[L.BATCH_Y]), r * width), at(floats(job[L.Y]), sample * width), width)
            if job[L.SAMPLE_WEIGHTS] != 0:
                floats(job[L.BATCH_W])[r] = floats(job[L.SAMPLE_WEIGHTS])[sample]


@kernel
def activate(op, y, z, row, rows, columns):
    """y = f(z) of rows that stand ``row`` apart."""
    if op[L.FORWARD_CODE] != 0:
        call_code(op[L.FORWARD_CODE], (y, z, row, rows, columns, floats(op[L.FORWARD_NUMBERS])))


@kernel
def apply_slope(op, dy, y, z, row, rows, columns):
    """dy = dz = dy f'(z) of rows that stand ``row`` apart."""
    if op[L.BACK_CODE] != 0:
        call_code(op[L.BACK_CODE], (dy, y, z, row, rows, columns, floats(op[L.BACK_NUMBERS])))


@kernel
def all_here(job):
    """Wait for the other threads."""
    meet(words(job[L.BARRIER]), job[L.THREADS], job[L.YIELD])


@kernel
def forward_batch_norm(job, op, thread, first, last, step, samples):
    """Batch normalization of some rows; in training all threads meet, and share out the columns' statistics."""
    real, n, x_row, y_row = doubles(op), op[L.OUTPUTS], op[L.IN_LD], op[L.OUT_LD]
    mean, inverse, epsilon = floats(op[L.KEPT]), at(floats(op[L.KEPT]), n), float32(real[L.EPSILON])
    averages, variances = floats(op[L.MEAN]), floats(op[L.VARIANCE])
    trains = step > 0 and op[L.FROZEN] == 0
    if trains:
        all_here(job)
        batch_statistics(
            floats(op[L.IN]), x_row, samples, mean, inverse, floats(op[L.SUMS]), averages, variances,
            float32(real[L.MOMENTUM]), epsilon, n * thread // job[L.THREADS], n * (thread + 1) // job[L.THREADS],
        )  # fmt: skip
        all_here(job)
    for r in range(first, last):
        x, y = at(floats(op[L.IN]), r * x_row), at(floats(op[L.OUT]), r * y_row)
        if trains:
            centre(y, x, n, mean, inverse)
        else:
            standardize(y, x, n, averages, variances, epsilon)
        scaled(y, floats(op[L.KERNEL]), op[L.KERNEL] != 0, floats(op[L.BIAS]), op[L.BIAS] != 0, n)


@kernel
def forward(job, op, thread, first, last, more, step, samples):
    """One operation on some rows, which are ``more`` rows further on in the batch."""
    real, rows, inputs, outputs = doubles(op), last - first, op[L.INPUTS], op[L.OUTPUTS]
    x_row, y_row = op[L.IN_LD], op[L.OUT_LD]
    x, y = at(floats(op[L.IN]), first * x_row), at(floats(op[L.OUT]), first * y_row)
    if op[L.KIND] == L.DENSE:
        z = y if op[L.Z] == 0 else at(floats(op[L.Z]), first * y_row)
        identity, bias = words(job[L.IDENTITY]), floats(op[L.BIAS])
        index, active = identity, inputs
        if op[L.ZEROS] != 0:
            sums = at(floats(op[L.ACTIVE]), thread * op[L.ACTIVE_LD])
            mark_active(sums, x, x_row, rows, inputs)
            if job[L.WEIGHTS_BAD] == 0:
                index = at(words(job[L.LISTS]), thread * job[L.LISTS_LD])
                active = list_active(index, sums, 0, 1, inputs)
        forward_product(
            z, y_row, bias, op[L.BIAS] != 0, x, x_row, floats(op[L.KERNEL]), index, active, identity, rows, inputs,
            outputs, ZERO if op[L.RELU] else LOWEST, at(floats(job[L.COPIES]), thread * job[L.COPIES_LD]),
        )  # fmt: skip
        activate(op, y, z, y_row, rows, outputs)
        return
    if op[L.KIND] == L.BATCH_NORM:
        forward_batch_norm(job, op, thread, first, last, step, samples)
        return
    if op[L.KIND] == L.ACTIVATION and op[L.ROW] == outputs and op[L.FORWARD_CODE] != 0:
        activate(op, y, x, y_row, rows, outputs)
        return
    for r in range(rows):
        row = at(y, r * y_row)
        if op[L.KIND] == L.COLUMNS:
            centre(row, at(x, r * x_row), outputs, floats(op[L.MEAN]), floats(op[L.KERNEL]))
            scaled(row, row, False, floats(op[L.BIAS]), True, outputs)
            continue
        copy(row, at(x, r * x_row), outputs)
        if op[L.KIND] == L.ACTIVATION:
            activate(op, row, row, op[L.ROW], outputs // op[L.ROW], op[L.ROW])
        elif op[L.KIND] == L.AFFINE:
            scale(row, outputs, float32(real[L.FACTOR]), float32(real[L.OFFSET]))
        elif step > 0 and real[L.RATE] > 0:
            mask, place = at(floats(op[L.MASK]), (first + r) * outputs), (job[L.PLACE] + first + r + more) * outputs
            rate, kept = float32(real[L.RATE]), float32(real[L.SCALE])
            drop(row, mask, place, place + outputs, rate, kept, op[L.KEY], op[L.LAYER], step)


@kernel
def judge(job, out, delta, out_row, outputs, first, last, more, samples):
    """Losses, metrics and the gradient by the predictions, of some rows of a batch of ``samples``; see `forward`."""
    metrics, rows, width, ld = at(job, job[L.METRICS_AT]), last - first, job[L.Y_WIDTH], job[L.VALUES_LD]
    values, factors = at(floats(job[L.VALUES]), first + more), at(floats(job[L.FACTORS]), first)
    weights, weighted = at(floats(job[L.BATCH_W]), first), job[L.SAMPLE_WEIGHTS] != 0
    t, p, dp = at(floats(job[L.BATCH_Y]), first * width), at(out, first * out_row), at(delta, first * out_row)
    for m in range(job[L.METRICS]):
        record = at(metrics, m * L.METRIC_WORDS)
        sums, shares = at(values, record[L.METRIC_FIRST] * ld), at(values, (job[L.SERIES] - job[L.METRICS] + m) * ld)
        call_code(
            record[L.METRIC_CODE],
            (sums, ld, t, p, width, out_row, rows, outputs, floats(record[L.METRIC_NUMBERS])),
        )  # fmt: skip
        for r in range(rows):
            shares[r] = weights[r] if weighted and record[L.METRIC_WEIGHTED] else ONE
        if weighted and record[L.METRIC_WEIGHTED]:
            for s in range(record[L.METRIC_SUMS]):
                multiply(at(sums, s * ld), weights, rows)
    for r in range(rows):
        factors[r] = (weights[r] if weighted else ONE) / float32(samples)
    call_code(job[L.LOSS_CODE], (values, dp, t, p, factors, width, out_row, rows, outputs, floats(job[L.LOSS_NUMBERS])))
    if weighted:
        multiply(values, weights, rows)


# ---- the way back ----------------------------------------------------------------------------------------------------
@kernel
def back_batch_norm(job, op, thread, first, last, samples):
    """The way back of batch normalization: all threads meet, and share out the columns' sums; DELTA stays."""
    n, x_row, y_row = op[L.OUTPUTS], op[L.IN_LD], op[L.OUT_LD]
    mean, inverse = floats(op[L.KEPT]), at(floats(op[L.KEPT]), n)
    dgamma, dbeta = floats(op[L.SUMS]), at(floats(op[L.SUMS]), n)
    if op[L.FROZEN] == 0:
        all_here(job)
        column_gradients(
            dgamma, dbeta, floats(op[L.DELTA]), y_row, floats(op[L.IN]), x_row, samples, mean, inverse,
            n * thread // job[L.THREADS], n * (thread + 1) // job[L.THREADS],
        )  # fmt: skip
        all_here(job)
    if op[L.IN_DELTA] == 0:
        return
    for r in range(first, last):
        dx, dy = at(floats(op[L.IN_DELTA]), r * x_row), at(floats(op[L.DELTA]), r * y_row)
        if op[L.FROZEN] == 0:
            batch_slope(dx, dy, at(floats(op[L.IN]), r * x_row), n, mean, inverse, dgamma, dbeta, samples)
        else:
            fixed_slope(dx, dy, n, floats(op[L.VARIANCE]), float32(doubles(op)[L.EPSILON]))
        scaled(dx, floats(op[L.KERNEL]), op[L.KERNEL] != 0, dx, False, n)


@kernel
def back(job, op, thread, first, last, samples):
    """One operation on some rows: DELTA becomes the gradient by the pre-activations, IN_DELTA that by the inputs."""
    real, rows, inputs, outputs = doubles(op), last - first, op[L.INPUTS], op[L.OUTPUTS]
    x_row, y_row = op[L.IN_LD], op[L.OUT_LD]
    dy, y = at(floats(op[L.DELTA]), first * y_row), at(floats(op[L.OUT]), first * y_row)
    x, dx = at(floats(op[L.IN]), first * x_row), at(floats(op[L.IN_DELTA]), first * x_row)
    if op[L.KIND] == L.DENSE:
        z, bad = y if op[L.Z] == 0 else at(floats(op[L.Z]), first * y_row), False
        apply_slope(op, dy, y, z, y_row, rows, outputs)
        for r in range(rows if op[L.ZEROS] != 0 else 0):
            bad |= any_bad(at(dy, r * y_row), outputs)
        if bad:
            job[L.GRADIENTS_BAD] = 1
        if op[L.IN_DELTA] == 0:
            return
        identity = words(job[L.IDENTITY])
        index, active = identity, inputs
        if op[L.ZEROS] == L.RELU_ZEROS and job[L.WEIGHTS_BAD] == 0 and not bad:
            index = at(words(job[L.LISTS]), thread * job[L.LISTS_LD])
            active = list_active(index, at(floats(op[L.ACTIVE]), thread * op[L.ACTIVE_LD]), 0, 1, inputs)
            if active < inputs:
                clear(dx, rows, x_row, inputs)
        work = at(floats(job[L.COPIES]), thread * job[L.COPIES_LD])
        inputs_product(
            dx, x_row, dy, y_row, floats(op[L.KERNEL]), index, active, identity, rows, inputs, outputs, samples,
            work,
        )  # fmt: skip
        return
    if op[L.KIND] == L.BATCH_NORM:
        back_batch_norm(job, op, thread, first, last, samples)
        return
    whole = op[L.KIND] == L.ACTIVATION and op[L.ROW] == outputs
    if whole:
        apply_slope(op, dy, y, x, y_row, rows, outputs)
    for r in range(rows):
        above = at(dy, r * y_row)
        if op[L.KIND] == L.ACTIVATION and not whole:
            row, count = op[L.ROW], outputs // op[L.ROW]
            apply_slope(op, above, at(y, r * y_row), at(x, r * x_row), row, count, row)
        elif op[L.KIND] == L.AFFINE:
            scale(above, outputs, float32(real[L.FACTOR]), float32(0))
        elif op[L.KIND] == L.COLUMNS:
            multiply(above, floats(op[L.KERNEL]), outputs)
        elif op[L.KIND] == L.DROPOUT and real[L.RATE] > 0:
            multiply(above, at(floats(op[L.MASK]), (first + r) * outputs), outputs)
        if op[L.IN_DELTA] != 0:
            copy(at(dx, r * x_row), above, outputs)


# ---- the weights -----------------------------------------------------------------------------------------------------
@kernel
def update(job, w, g, n, scalars):
    """Apply the optimizer to n weights."""
    arguments = w, g, words(job[L.SLOTS]), n, floats(job[L.UPDATE_NUMBERS]), scalars
    if call_code(job[L.UPDATE_CODE], arguments) != 0:
        job[L.WEIGHTS_BAD] = 1


@kernel
def is_turned(inputs, outputs):
    """Whether a slice's gradient by a kernel is computed transposed: then lanes go along the inputs, which are more."""
    return outputs < COLUMNS and outputs < inputs


@kernel
def slice_gradients(job, part, first, rows):
    """The gradients by all weights of slice number ``part``, whose rows stand from ``first`` on."""
    g, identity = at(floats(job[L.SLICES]), part * job[L.SLICES_LD]), words(job[L.IDENTITY])
    for i in range(job[L.OPS]):
        op = record(job, i)
        if op[L.KIND] == L.DENSE:
            inputs, outputs, x_row, dz_row = op[L.INPUTS], op[L.OUTPUTS], op[L.IN_LD], op[L.OUT_LD]
            x, dz = at(floats(op[L.IN]), first * x_row), at(floats(op[L.DELTA]), first * dz_row)
            dw = at(g, op[L.SLICE_AT])
            if op[L.KERNEL_TRAINS] and is_turned(inputs, outputs):
                weights_product(dw, dz, 1, dz_row, x, x_row, identity, rows, outputs, inputs)
            elif op[L.KERNEL_TRAINS]:
                weights_product(dw, x, 1, x_row, dz, dz_row, identity, rows, inputs, outputs)
            if op[L.BIAS] != 0 and op[L.BIAS_TRAINS]:
                column_sums(at(dw, inputs * outputs), dz, dz_row, rows, outputs)


@kernel
def add_slices(job, g, rows, width, place, row, column, slices):
    """g[rows, width] = the sum over slices of what stands from ``place`` on, ``row`` and ``column`` apart."""
    clear(g, 1, 0, rows * width)
    for part in range(slices):
        values = at(floats(job[L.SLICES]), part * job[L.SLICES_LD] + place)
        for r in range(rows):
            for c in range(width):
                g[r * width + c] += values[r * row + c * column]


@kernel
def block_gradient(job, op, g, thread, row, rows, column, width, samples):
    """g[rows, width] = the gradient of a block of the kernel, from ``row`` and ``column`` on.

    Rows whose input is zero in the whole batch are left out of the product, and put in as zeros afterwards.
    """
    slices = slices_of(samples, job[L.LONG], job[L.SLICE])
    if slices > 1:
        inputs, outputs = op[L.INPUTS], op[L.OUTPUTS]
        if is_turned(inputs, outputs):
            add_slices(job, g, rows, width, op[L.SLICE_AT] + column * inputs + row, 1, inputs, slices)
        else:
            add_slices(job, g, rows, width, op[L.SLICE_AT] + row * outputs + column, outputs, 1, slices)
        return
    x, x_row, dz_row = at(floats(op[L.IN]), row), op[L.IN_LD], op[L.OUT_LD]
    dz, identity = at(floats(op[L.DELTA]), column), words(job[L.IDENTITY])
    if op[L.OUTPUTS] == 1:
        weights_product(g, dz, 0, dz_row, x, x_row, identity, samples, 1, rows)  # as a row: lanes go along x
        return
    index, active = at(words(job[L.LISTS]), thread * job[L.LISTS_LD]), rows
    if op[L.ZEROS] != 0 and job[L.GRADIENTS_BAD] == 0:
        active = list_active(index, at(floats(op[L.ACTIVE]), row), op[L.ACTIVE_LD], job[L.THREADS], rows)
    if packs(samples, op[L.INPUTS], op[L.OUTPUTS]):
        packed_product(
            WEIGHTS, g, width, g, x, x_row, dz, dz_row, index if active < rows else identity, identity, samples,
            active, width, 0, LOWEST, at(floats(job[L.COPIES]), thread * job[L.COPIES_LD]),
        )  # fmt: skip
    elif active == rows:
        weights_product(g, x, 1, x_row, dz, dz_row, identity, samples, rows, width)
    else:
        panel = at(floats(job[L.PANELS]), thread * job[L.PANELS_LD])
        pack_columns(panel, x, x_row, index, samples, active)
        weights_product(g, panel, 1, active, dz, dz_row, identity, samples, active, width)
    if active == rows:
        return
    for r in range(rows - 1, -1, -1):  # from the last on, so that none is overwritten before it has moved
        if active > 0 and index[active - 1] == r:
            active -= 1
            copy(at(g, r * width), at(g, active * width), width)
        else:
            clear(at(g, r * width), 1, 0, width)


@kernel
def update_kernel(job, op, thread, samples, trains, scalars):
    """Update this thread's rows of the kernel of a dense layer, block by block; not ``trains``: penalties only."""
    outputs, shares = op[L.OUTPUTS], words(op[L.SHARES])
    begin, end = shares[thread], shares[thread + 1]
    g = at(floats(job[L.GRADIENTS]), thread * job[L.GRADIENTS_LD])
    most, width = block_of(samples, op[L.INPUTS], outputs)
    blocks = (end - begin + most - 1) // most
    for c in range((outputs + width - 1) // width):
        column = c * width
        columns = min(width, outputs - column)
        for t in range(blocks):
            row, rows = share_of(begin, end, t, blocks)
            w = at(floats(op[L.KERNEL]), row * outputs + column)
            if trains:
                block_gradient(job, op, g, thread, row, rows, column, columns, samples)
            if op[L.KERNEL_PENALTY_CODE] != 0:
                values = at(floats(job[L.PANELS]), thread * job[L.PANELS_LD])
                call_code(
                    op[L.KERNEL_PENALTY_CODE],
                    (values, w, g, outputs, columns, rows, columns, floats(op[L.KERNEL_PENALTY_NUMBERS])),
                )
                add_penalties(at(doubles(op[L.PENALTIES]), row), values, rows, column)
            if trains and columns == outputs:
                update(job, w, g, rows * outputs, scalars)
            elif trains:
                for r in range(rows):
                    update(job, at(w, r * outputs), at(g, r * columns), columns, scalars)


@kernel
def add_penalties(totals, values, n, more):
    """Put the penalties of n rows in their places among PENALTIES, or, with ``more``, add them to what is there."""
    for r in range(n):
        totals[r] = totals[r] + values[r] if more else values[r]


@kernel
def update_bias(job, op, thread, samples, trains, scalars):
    """Update the bias of a dense layer, as many outputs at a time as there is room for."""
    outputs, g = op[L.OUTPUTS], at(floats(job[L.GRADIENTS]), thread * job[L.GRADIENTS_LD])
    slices = slices_of(samples, job[L.LONG], job[L.SLICE])
    for o in range(0, outputs, L.CHUNK):
        n, w = min(L.CHUNK, outputs - o), at(floats(op[L.BIAS]), o)
        if trains and slices > 1:
            add_slices(job, g, 1, n, op[L.SLICE_AT] + op[L.INPUTS] * outputs + o, 0, 1, slices)
        elif trains:
            column_sums(g, at(floats(op[L.DELTA]), o), op[L.OUT_LD], samples, n)
        code, numbers = op[L.BIAS_PENALTY_CODE], floats(op[L.BIAS_PENALTY_NUMBERS])
        update_vector(
            job, thread, w, g, n, code, numbers, at(doubles(op[L.PENALTIES]), op[L.INPUTS]), o, trains, scalars
        )


@kernel
def update_vector(job, thread, w, g, n, code, numbers, total, more, trains, scalars):
    """Update n weights by their gradient g and their penalty, which is put into ``total``; see `add_penalties`."""
    if code != 0:
        values = at(floats(job[L.PANELS]), thread * job[L.PANELS_LD])
        call_code(code, (values, w, g, n, n, 1, n, numbers))
        add_penalties(total, values, 1, more)
    if trains:
        update(job, w, g, n, scalars)


@kernel
def update_batch_norm(job, op, thread, training, scalars):
    """Update gamma and beta, of which the gradients are there."""
    n, totals = op[L.OUTPUTS], doubles(op[L.PENALTIES])
    code, numbers = op[L.KERNEL_PENALTY_CODE], floats(op[L.KERNEL_PENALTY_NUMBERS])
    g, trains = floats(op[L.SUMS]), training and op[L.KERNEL_TRAINS] != 0
    if op[L.KERNEL] != 0:
        update_vector(job, thread, floats(op[L.KERNEL]), g, n, code, numbers, totals, 0, trains, scalars)
    code, numbers = op[L.BIAS_PENALTY_CODE], floats(op[L.BIAS_PENALTY_NUMBERS])
    g, trains = at(g, n), training and op[L.BIAS_TRAINS] != 0
    if op[L.BIAS] != 0:
        update_vector(job, thread, floats(op[L.BIAS]), g, n, code, numbers, at(totals, 1), 0, trains, scalars)


# ---- a step ----------------------------------------------------------------------------------------------------------
@kernel
def run_rows(job, thread, k, first, last, more, samples):
    """The phases on rows of batch k: no thread needs another but for a batch's statistics.

    They stand at ``first`` to ``last`` - 1, and are ``more`` rows further on in the batch.
    """
    count, phases = job[L.OPS], job[L.PHASES]
    step = job[L.STEP] + k - job[L.FIRST] if job[L.STEP] > 0 else 0
    bottom, top = record(job, 0), record(job, count - 1)
    if phases & L.FORWARD:
        gather(job, floats(bottom[L.IN]), bottom[L.IN_LD], k * job[L.BATCH] + more, first, last)
        for i in range(count):
            forward(job, record(job, i), thread, first, last, more, step, samples)
    if phases & L.OBJECTIVE:
        judge(job, floats(top[L.OUT]), floats(top[L.DELTA]), top[L.OUT_LD], top[L.OUTPUTS], first, last, more, samples)
    if phases & L.BACK:
        for i in range(count - 1, -1, -1):
            back(job, record(job, i), thread, first, last, samples)
    if job[L.PREDICTIONS] != 0:
        width = job[L.PREDICTIONS_WIDTH]
        for r in range(first, last):
            out = at(floats(job[L.PREDICTIONS]), ((k - job[L.FIRST]) * job[L.BATCH] + r + more) * width)
            copy(out, at(floats(top[L.OUT]), r * top[L.OUT_LD]), width)


@kernel
def run_weights(job, thread, k, samples):
    """The update of this thread's share of the weights, or, where nothing is trained, their penalties."""
    training = job[L.PHASES] & L.UPDATE != 0
    scalars = at(floats(job[L.SCALARS]), (k - job[L.FIRST]) * job[L.SCALARS_LD])
    for i in range(job[L.OPS]):
        op = record(job, i)
        if op[L.KIND] == L.DENSE:
            trains = training and op[L.KERNEL_TRAINS] != 0
            if trains or op[L.KERNEL_PENALTY_CODE] != 0:
                update_kernel(job, op, thread, samples, trains, scalars)
            trains = training and op[L.BIAS_TRAINS] != 0
            if op[L.BIAS] != 0 and i % job[L.THREADS] == thread and (trains or op[L.BIAS_PENALTY_CODE] != 0):
                update_bias(job, op, thread, samples, trains, scalars)
        elif op[L.KIND] == L.BATCH_NORM and i % job[L.THREADS] == thread:
            update_batch_norm(job, op, thread, training, scalars)


@kernel
def total(values, n):
    """The sum of n numbers, in order and in double."""
    result = 0.0
    for r in range(n):
        result += values[r]
    return result


@kernel
def report(job, k, samples):
    """Write what batch k gave to the results, all but the penalties."""
    results = at(doubles(job[L.RESULTS]), (k - job[L.FIRST]) * job[L.SERIES])
    values, ld = floats(job[L.VALUES]), job[L.VALUES_LD]
    results[0] = total(values, samples) / samples
    for series in range(1, job[L.SERIES]):
        results[series] = total(at(values, series * ld), samples)


@kernel
def report_penalties(job, k):
    """Add the penalties of batch k's step to its loss."""
    results = at(doubles(job[L.RESULTS]), (k - job[L.FIRST]) * job[L.SERIES])
    for i in range(job[L.OPS]):
        op = record(job, i)
        if op[L.PENALTIES] != 0:
            penalties = doubles(op[L.PENALTIES])
            for p in range(op[L.PARTS]):
                results[0] += penalties[p]


@kernel
def run_batches(job, thread):
    """The job's batches, by this thread; see `run`."""
    threads, barrier = job[L.THREADS], words(job[L.BARRIER])
    meets = job[L.PHASES] & (L.OBJECTIVE | L.UPDATE | L.PENALIZE) != 0
    for k in range(job[L.FIRST], job[L.LAST]):
        samples = min(job[L.BATCH], job[L.SAMPLES] - k * job[L.BATCH])
        slices = slices_of(samples, job[L.LONG], job[L.SLICE])
        pieces = slices if slices > 1 else threads
        if samples < job[L.BATCH] and not meets:  # shared out differently: others may still be at some of these rows
            meet(barrier, threads, job[L.YIELD])
        for i in range(pieces * thread // threads, pieces * (thread + 1) // threads):
            start, stop = samples * i // pieces, samples * (i + 1) // pieces
            first = thread * job[L.SLICE] if slices > 1 else start
            run_rows(job, thread, k, first, first + stop - start, start - first, samples)
            if slices > 1 and job[L.PHASES] & L.UPDATE:
                slice_gradients(job, i, first, stop - start)
        if meets:
            meet(barrier, threads, job[L.YIELD])
            if job[L.PHASES] & (L.UPDATE | L.PENALIZE):
                run_weights(job, thread, k, samples)
            if thread == 0 and job[L.PHASES] & L.OBJECTIVE:
                report(job, k, samples)
            meet(barrier, threads, job[L.YIELD])
            if thread == 0 and job[L.PHASES] & L.OBJECTIVE:
                report_penalties(job, k)


@kernel
def run(address, thread):
    """Run the job whose table stands at ``address``, as thread number ``thread`` of its THREADS; return 0."""
    modes = flush_denormals()
    run_batches(words(address), thread)
    restore_modes(modes)
    return int32(0)


@kernel
def run_many(address, thread):
    """Run the jobs of the list at ``address``, which have THREADS 1, on as many threads as call this; return 0.

    A thread that is done with a job takes the next that nobody has: jobs meet nowhere, so a slow thread holds up none
    but its own. `run` is called by its address: by its name, all of it would be compiled once more, in three seconds.
    """
    jobs = words(address)
    i = arrive(at(jobs, L.TAKEN))
    while i < jobs[L.JOBS]:
        call_entry(jobs[L.RUN], jobs[L.JOBS_AT + i], 0)
        i = arrive(at(jobs, L.TAKEN))
    return int32(0)


ENTRIES = {"run": run, "run_many": run_many}
