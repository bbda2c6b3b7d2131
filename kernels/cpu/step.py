"""Training steps as one compiled call, run by several threads together: `run`. Its table of words: layout.py.

`run_many` runs several such jobs in one call, each by one thread.

Each thread takes some rows of the batch through the whole network, forward, loss and back: no layer waits for another
thread. Then all meet, and each thread updates some rows of every weight array, from gradients that it sums over the
batch right there; then all meet again. So a step has two barriers, whatever the network's depth; a prediction has none,
except before a last batch that is short. Every number is computed by one thread in an order that the shapes alone fix:
the result is the same for any number of threads.
"""

from numba import float32, int32

from . import layout as L
from .dense import (
    chunk_of,
    column_sums,
    forward_product,
    inputs_product,
    list_active,
    mark_active,
    pack_columns,
    weights_product,
)  # fmt: skip
from .objectives import sample_loss, sample_metric
from .rows import LOWEST, ONE, ZERO, activate, any_bad, apply_slope, clear, copy, drop, multiply, scale
from .updates import adam, penalty, rmsprop, rmsprop_full, sgd, sgd_momentum
from .vector import arrive, at, call_entry, doubles, floats, flush_denormals, kernel, meet, restore_modes, words


# ---- the way forward: rows ``first`` to ``last`` - 1 of the batch ----------------------------------------------------
@kernel
def gather(job, x, x_row, batch_start, first, last):
    """Copy the samples of some rows of the batch to where the first operation reads, and what belongs to them."""
    for r in range(first, last):
        sample = batch_start + r
        if job[L.ORDER] != 0:
            sample = words(job[L.ORDER])[sample]
        copy(at(x, r * x_row), at(floats(job[L.X]), sample * job[L.X_WIDTH]), job[L.X_WIDTH])
        if job[L.PHASES] & L.OBJECTIVE:
            width = job[L.Y_WIDTH]
            copy(at(floats(job[L.BATCH_Y]), r * width), at(floats(job[L.Y]), sample * width), width)
            if job[L.SAMPLE_WEIGHTS] != 0:
                floats(job[L.BATCH_W])[r] = floats(job[L.SAMPLE_WEIGHTS])[sample]


@kernel
def stretches(function, rows, columns, distance):
    """In how many stretches, and how long, rows that stand ``distance`` apart go through a function.

    In one, with what fills the rows up, where that is little and the function is one of single elements: short loops
    cost more than a few elements too many.
    """
    if function == L.SOFTMAX or columns * 2 < distance or rows == 0:
        return rows, columns
    return 1, (rows - 1) * distance + columns


@kernel
def forward(job, op, thread, first, last, step):
    """One operation on some rows."""
    real = doubles(op)
    rows, inputs, outputs, function = last - first, op[L.INPUTS], op[L.OUTPUTS], op[L.FUNCTION]
    x_row, y_row, constant = op[L.IN_LD], op[L.OUT_LD], float32(real[L.CONSTANT])
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
            outputs, ZERO if function == L.RELU else LOWEST, at(floats(job[L.TURNED]), thread * job[L.TURNED_LD]),
        )  # fmt: skip
        if function == L.RELU:
            return
        lines, length = stretches(function, rows, outputs, y_row)
        for r in range(lines):
            if op[L.Z] != 0:
                copy(at(y, r * y_row), at(z, r * y_row), length)
            activate(function, at(y, r * y_row), length, constant)
        return
    for r in range(rows):
        row, place = at(y, r * y_row), (first + r) * outputs
        copy(row, at(x, r * x_row), outputs)
        if op[L.KIND] == L.ACTIVATION:
            for s in range(outputs // op[L.ROW]):
                activate(function, at(row, s * op[L.ROW]), op[L.ROW], constant)
        elif op[L.KIND] == L.AFFINE:
            scale(row, outputs, constant, float32(real[L.OFFSET]))
        elif step > 0 and real[L.RATE] > 0:
            mask, rate, kept = at(floats(op[L.MASK]), place), float32(real[L.RATE]), float32(real[L.SCALE])
            drop(row, mask, place, place + outputs, rate, kept, op[L.KEY], op[L.LAYER], step)


@kernel
def judge(job, out, delta, out_row, outputs, first, last, samples):
    """Losses, metrics and the gradient by the predictions, of some rows of a batch of ``samples``."""
    real, metrics = doubles(job), at(job, job[L.METRICS_AT])
    width, values, ld = job[L.Y_WIDTH], floats(job[L.VALUES]), job[L.VALUES_LD]
    weighted, count = job[L.SAMPLE_WEIGHTS] != 0, job[L.METRICS]
    for r in range(first, last):
        weight = floats(job[L.BATCH_W])[r] if weighted else ONE
        t, p = at(floats(job[L.BATCH_Y]), r * width), at(out, r * out_row)
        for m in range(count):
            record = at(metrics, m * L.METRIC_WORDS)
            share = weight if record[L.METRIC_WEIGHTED] else ONE
            values[(1 + m) * ld + r] = sample_metric(record[L.METRIC_KIND], t, p, outputs, width) * share
            values[(1 + count + m) * ld + r] = share
        value = sample_loss(
            job[L.LOSS], at(delta, r * out_row), t, p, outputs, weight / float32(samples), job[L.SPARSE_LABELS],
            float32(real[L.LOSS_CONSTANT]),
        )  # fmt: skip
        values[r] = value * weight


# ---- the way back ----------------------------------------------------------------------------------------------------
@kernel
def back(job, op, thread, first, last):
    """One operation on some rows: DELTA becomes the gradient by the pre-activations, IN_DELTA that by the inputs."""
    real = doubles(op)
    rows, inputs, outputs, function = last - first, op[L.INPUTS], op[L.OUTPUTS], op[L.FUNCTION]
    x_row, y_row, constant = op[L.IN_LD], op[L.OUT_LD], float32(real[L.CONSTANT])
    dy, y = at(floats(op[L.DELTA]), first * y_row), at(floats(op[L.OUT]), first * y_row)
    x, dx = at(floats(op[L.IN]), first * x_row), at(floats(op[L.IN_DELTA]), first * x_row)
    if op[L.KIND] == L.DENSE:
        z, bad = y if op[L.Z] == 0 else at(floats(op[L.Z]), first * y_row), False
        lines, length = stretches(function, rows, outputs, y_row)
        for r in range(lines):
            apply_slope(function, at(dy, r * y_row), at(y, r * y_row), at(z, r * y_row), length, constant)
            if op[L.ZEROS] != 0:
                bad |= any_bad(at(dy, r * y_row), length)
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
        work = at(floats(job[L.TURNED]), thread * job[L.TURNED_LD])
        inputs_product(
            dx, x_row, dy, y_row, floats(op[L.KERNEL]), index, active, identity, rows, inputs, outputs, job[L.BATCH],
            work,
        )  # fmt: skip
        return
    for r in range(rows):
        above = at(dy, r * y_row)
        if op[L.KIND] == L.ACTIVATION:
            for s in range(outputs // op[L.ROW]):
                j = s * op[L.ROW]
                apply_slope(function, at(above, j), at(y, r * y_row + j), at(x, r * x_row + j), op[L.ROW], constant)
        elif op[L.KIND] == L.AFFINE:
            scale(above, outputs, constant, float32(0))
        elif real[L.RATE] > 0:
            multiply(above, at(floats(op[L.MASK]), (first + r) * outputs), outputs)
        if op[L.IN_DELTA] != 0:
            copy(at(dx, r * x_row), above, outputs)


# ---- the weights -----------------------------------------------------------------------------------------------------
@kernel
def update(job, w, g, n, rate, decay):
    """Apply the optimizer to n weights."""
    real = doubles(job)
    factor, rest, epsilon = float32(real[L.BETA_1]), float32(1.0 - real[L.BETA_2]), float32(real[L.EPSILON])
    one, two, three = at(w, job[L.SLOT_1]), at(w, job[L.SLOT_2]), at(w, job[L.SLOT_3])
    bad = False
    if job[L.OPTIMIZER] == L.ADAM:
        bad = adam(w, g, one, two, n, rate, decay, float32(1.0 - real[L.BETA_1]), rest, epsilon)
    elif job[L.OPTIMIZER] == L.RMSPROP and job[L.SLOT_2] == 0 and job[L.SLOT_3] == 0:
        bad = rmsprop(w, g, one, n, rate, decay, rest, epsilon)
    elif job[L.OPTIMIZER] == L.RMSPROP:
        moving, centered = job[L.SLOT_2] != 0, job[L.SLOT_3] != 0
        bad = rmsprop_full(w, g, one, two, three, n, rate, decay, rest, factor, epsilon, moving, centered)
    elif job[L.SLOT_1] != 0:
        bad = sgd_momentum(w, g, one, n, rate, decay, factor, job[L.NESTEROV])
    else:
        bad = sgd(w, g, n, rate, decay)
    if bad:
        job[L.WEIGHTS_BAD] = 1


@kernel
def block_gradient(job, op, g, thread, row, rows, column, width, samples):
    """g[rows, width] = the gradient of a block of the kernel, from ``row`` and ``column`` on.

    Rows whose input is zero in the whole batch are left out of the product, and put in as zeros afterwards.
    """
    x, x_row, dz_row = at(floats(op[L.IN]), row), op[L.IN_LD], op[L.OUT_LD]
    dz, identity = at(floats(op[L.DELTA]), column), words(job[L.IDENTITY])
    if op[L.OUTPUTS] == 1:
        weights_product(g, dz, 0, dz_row, x, x_row, identity, samples, 1, rows)  # as a row: lanes go along x
        return
    index, active = at(words(job[L.LISTS]), thread * job[L.LISTS_LD]), rows
    if op[L.ZEROS] != 0 and job[L.GRADIENTS_BAD] == 0:
        active = list_active(index, at(floats(op[L.ACTIVE]), row), op[L.ACTIVE_LD], job[L.THREADS], rows)
    if active == rows:
        weights_product(g, x, 1, x_row, dz, dz_row, identity, samples, rows, width)
        return
    panel = at(floats(job[L.PANELS]), thread * job[L.PANELS_LD])
    pack_columns(panel, x, x_row, index, samples, active)
    weights_product(g, panel, 1, active, dz, dz_row, identity, samples, active, width)
    for r in range(rows - 1, -1, -1):  # from the last on, so that none is overwritten before it has moved
        if active > 0 and index[active - 1] == r:
            active -= 1
            copy(at(g, r * width), at(g, active * width), width)
        else:
            clear(at(g, r * width), 1, 0, width)


@kernel
def update_kernel(job, op, thread, samples, trains, rate, decay):
    """Update this thread's rows of the kernel of a dense layer, block by block; not ``trains``: penalties only."""
    real, outputs, shares = doubles(op), op[L.OUTPUTS], words(op[L.SHARES])
    g, width = at(floats(job[L.GRADIENTS]), thread * job[L.GRADIENTS_LD]), chunk_of(samples, outputs)
    begin, end = shares[thread], shares[thread + 1]
    for c in range((outputs + width - 1) // width):
        column = c * width
        columns = min(width, outputs - column)
        for row in range(begin, end, L.BLOCK):
            rows = min(L.BLOCK, end - row)
            w = at(floats(op[L.KERNEL]), row * outputs + column)
            if trains:
                block_gradient(job, op, g, thread, row, rows, column, columns, samples)
            if op[L.PENALTIES] != 0:
                for r in range(rows):
                    add_penalty(
                        op, row + r, at(w, r * outputs), at(g, r * columns), columns, real[L.KERNEL_L1],
                        real[L.KERNEL_L2], trains, column,
                    )  # fmt: skip
            if trains and columns == outputs:
                update(job, w, g, rows * outputs, rate, decay)
            elif trains:
                for r in range(rows):
                    update(job, at(w, r * outputs), at(g, r * columns), columns, rate, decay)


@kernel
def add_penalty(op, place, w, g, n, l1, l2, slopes, more):
    """Put the penalty of n weights in its place among PENALTIES, and its slope into g[n]."""
    value, totals = penalty(w, g, n, l1, l2, slopes), doubles(op[L.PENALTIES])
    totals[place] = totals[place] + value if more else value


@kernel
def update_bias(job, op, thread, samples, trains, rate, decay):
    """Update the bias of a dense layer, as many outputs at a time as there is room for."""
    real, outputs = doubles(op), op[L.OUTPUTS]
    g = at(floats(job[L.GRADIENTS]), thread * job[L.GRADIENTS_LD])
    for o in range(0, outputs, L.CHUNK):
        n, w = min(L.CHUNK, outputs - o), at(floats(op[L.BIAS]), o)
        if trains:
            column_sums(g, at(floats(op[L.DELTA]), o), op[L.OUT_LD], samples, n)
        if op[L.PENALTIES] != 0:
            add_penalty(op, op[L.INPUTS], w, g, n, real[L.BIAS_L1], real[L.BIAS_L2], trains, o)
        if trains:
            update(job, w, g, n, rate, decay)


# ---- a step ----------------------------------------------------------------------------------------------------------
@kernel
def record(job, i):
    """The record of operation i."""
    return at(job, job[L.OPS_AT] + i * L.OP_WORDS)


@kernel
def run_rows(job, thread, k, first, last, samples):
    """The phases that need no other thread, on rows ``first`` to ``last`` - 1 of batch k."""
    count, phases = job[L.OPS], job[L.PHASES]
    step = job[L.STEP] + k - job[L.FIRST] if job[L.STEP] > 0 else 0
    bottom, top = record(job, 0), record(job, count - 1)
    if phases & L.FORWARD:
        gather(job, floats(bottom[L.IN]), bottom[L.IN_LD], k * job[L.BATCH], first, last)
        for i in range(count):
            forward(job, record(job, i), thread, first, last, step)
    if phases & L.OBJECTIVE:
        judge(job, floats(top[L.OUT]), floats(top[L.DELTA]), top[L.OUT_LD], top[L.OUTPUTS], first, last, samples)
    if phases & L.BACK:
        for i in range(count - 1, -1, -1):
            back(job, record(job, i), thread, first, last)
    if job[L.PREDICTIONS] != 0:
        width = job[L.PREDICTIONS_WIDTH]
        for r in range(first, last):
            out = at(floats(job[L.PREDICTIONS]), (k * job[L.BATCH] + r) * width)
            copy(out, at(floats(top[L.OUT]), r * top[L.OUT_LD]), width)


@kernel
def run_weights(job, thread, k, samples):
    """The update of this thread's share of the weights, or, where nothing is trained, their penalties."""
    scalars, training = floats(job[L.SCALARS]), job[L.PHASES] & L.UPDATE != 0
    place = 2 * (k - job[L.FIRST])
    rate, decay = scalars[place], scalars[place + 1]
    for i in range(job[L.OPS]):
        op = record(job, i)
        if op[L.KIND] == L.DENSE:
            trains = training and op[L.KERNEL_TRAINS] != 0
            if trains or op[L.PENALTIES] != 0:
                update_kernel(job, op, thread, samples, trains, rate, decay)
            trains = training and op[L.BIAS_TRAINS] != 0
            if op[L.BIAS] != 0 and i % job[L.THREADS] == thread and (trains or op[L.PENALTIES] != 0):
                update_bias(job, op, thread, samples, trains, rate, decay)


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
    results = at(doubles(job[L.RESULTS]), (k - job[L.FIRST]) * job[L.RESULTS_LD])
    values, ld = floats(job[L.VALUES]), job[L.VALUES_LD]
    results[0] = total(values, samples) / samples
    for series in range(1, 1 + 2 * job[L.METRICS]):
        results[series] = total(at(values, series * ld), samples)


@kernel
def report_penalties(job, k):
    """Add the penalties of batch k's step to its loss."""
    results = at(doubles(job[L.RESULTS]), (k - job[L.FIRST]) * job[L.RESULTS_LD])
    for i in range(job[L.OPS]):
        op = record(job, i)
        if op[L.KIND] == L.DENSE and op[L.PENALTIES] != 0:
            count = op[L.INPUTS] + (1 if op[L.BIAS] != 0 else 0)
            penalties = doubles(op[L.PENALTIES])
            for p in range(count):
                results[0] += penalties[p]


@kernel
def run_batches(job, thread):
    """The job's batches, by this thread; see `run`."""
    threads, barrier = job[L.THREADS], words(job[L.BARRIER])
    meets = job[L.PHASES] & (L.OBJECTIVE | L.UPDATE | L.PENALIZE) != 0
    for k in range(job[L.FIRST], job[L.LAST]):
        samples = min(job[L.BATCH], job[L.SAMPLES] - k * job[L.BATCH])
        first, last = samples * thread // threads, samples * (thread + 1) // threads
        if samples < job[L.BATCH] and not meets:  # shared out differently: others may still be at some of these rows
            meet(barrier, threads, job[L.YIELD])
        run_rows(job, thread, k, first, last, samples)
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
