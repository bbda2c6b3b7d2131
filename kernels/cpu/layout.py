"""The table of int64 words that says what a compiled call is to do: what stands where. Plain numbers; imports nothing.

The table opens with the fields of the job, then a record an operation, then one a metric. Addresses are those of
float32 arrays unless said otherwise, row-major, with the distance between rows (``_LD``, in floats) where rows are
padded; 0 where there is no array. Real numbers stand as the bits of a float64. `gpumlp/backends/fields.py` says of each
word which it is; `gpumlp/engine/compiled_program.py` fills the table in.

A ``_CODE`` is the address of a formula's function, 0: there is none; gpumlp/backends/cpu_formulas.py says what it is
called with. Its ``_NUMBERS`` are the address of float32 numbers that it is given.
"""

# ---- the job ---------------------------------------------------------------------------------------------------------
(
    THREADS,  # how many run the job together
    BARRIER,  # address of 16 words, zero when a job starts: how many have come, and, a cache line on, how often all had
    YIELD,  # address of the C function that lets other threads have the core; 0: none is called
    # what changes from call to call, side by side so that it is set at once
    PHASES,  # which of FORWARD, OBJECTIVE, BACK, UPDATE (with the penalties' share) and PENALIZE (without) are run
    FIRST, LAST,  # batches FIRST to LAST - 1
    BATCH, SAMPLES,  # rows in a batch, and in all; the last batch may be short
    STEP,  # number of the first step, from 1: what dropout's masks depend on; 0: inference, which drops nothing
    X, ORDER,  # [samples, X_WIDTH]; int64 [samples], 0: as they stand
    PREDICTIONS,  # where what comes out goes, [samples from batch FIRST on, PREDICTIONS_WIDTH]; 0: nowhere
    Y, SAMPLE_WEIGHTS,  # [samples, Y_WIDTH], [samples]; weights may be 0
    RESULTS,  # float64 [batches, SERIES]: the loss, the totals of each metric's sums, and each metric's divisor
    SCALARS,  # [batches, SCALARS_LD]: the numbers of the optimizer that differ from step to step
    # what the samples are, and what is made of them
    X_WIDTH, PREDICTIONS_WIDTH, Y_WIDTH,
    BATCH_Y, BATCH_W,  # where a batch's targets and weights are gathered; its x goes to the first operation's IN
    OPS, OPS_AT,  # how many operations, and the word where their records start
    LOSS_CODE, LOSS_NUMBERS,
    METRICS, METRICS_AT,
    FACTORS,  # [batch]: what each sample's gradient is multiplied by: its weight over the number of samples
    VALUES, VALUES_LD, SERIES,  # [SERIES, batch], to be added in order: each sample's loss, sums and weights of metrics
    SCALARS_LD,
    UPDATE_CODE, UPDATE_NUMBERS,
    SLOTS,  # address of int64: from a weight to its place in each of the optimizer's state arrays, in floats
    IDENTITY,  # address of int64 0, 1, 2, ..., as many as the batch or the widest layer has
    LISTS, GRADIENTS, PANELS, COPIES,  # each thread's work memory, one thread after the other, as `work_sizes`
    LISTS_LD, GRADIENTS_LD, PANELS_LD, COPIES_LD,
    PLACE,  # which row of a batch the first one is: what dropout's masks depend on, too
    LONG, SLICE,  # a batch of more than LONG samples goes in slices of at most so many; SLICE 0: never
    SLICES, SLICES_LD,  # [slices, SLICES_LD]: the gradients by all kernels and biases, of each slice by itself
    WEIGHTS_BAD, GRADIENTS_BAD,  # whether somebody saw NaN or Inf there: then no product with a zero is left out;
    # kernels only set these: a thread that cleared one could undo what another has just found
    JOB_WORDS,
) = range(52)  # fmt: skip
FORWARD, OBJECTIVE, BACK, UPDATE, PENALIZE = 1, 2, 4, 8, 16

# ---- an operation ----------------------------------------------------------------------------------------------------
DENSE, ACTIVATION, DROPOUT, AFFINE, COLUMNS, BATCH_NORM = range(6)
(
    KIND, INPUTS, OUTPUTS, FACTOR, OFFSET,  # AFFINE: FACTOR x + OFFSET
    FORWARD_CODE, FORWARD_NUMBERS, BACK_CODE, BACK_NUMBERS, ROW,  # an activation, of rows of ROW; 0: dz is dy, y is z
    RELU,  # DENSE: whether y is max(z, 0), by the product itself
    KERNEL, BIAS,  # [inputs, outputs], [outputs]; BATCH_NORM: gamma and beta, [outputs], 0: none
    KERNEL_TRAINS, BIAS_TRAINS,
    KERNEL_PENALTY_CODE, KERNEL_PENALTY_NUMBERS, BIAS_PENALTY_CODE, BIAS_PENALTY_NUMBERS,
    PENALTIES,  # address of float64 [PARTS]: of each row of the kernel, and the bias's; of gamma, and beta's; 0: none
    PARTS,
    MEAN, VARIANCE,  # [outputs]: BATCH_NORM's moving averages; COLUMNS: (x - MEAN) KERNEL + BIAS
    KEPT, SUMS,  # [2, outputs]: a batch's means and 1 / sqrt(variance + EPSILON); the gradients by gamma and beta
    EPSILON, MOMENTUM, FROZEN,  # FROZEN: in training, too, the moving averages are used, and stay
    IN, IN_DELTA, IN_LD,  # [batch, inputs]: values, and the gradients by them (0: not asked for)
    Z, OUT, DELTA, OUT_LD,  # [batch, outputs]: pre-activations (0: not kept), values, and the gradients by them
    MASK, RATE, SCALE, KEY, LAYER,  # dropout
    ZEROS,  # SOME_ZEROS: many inputs may be zero; RELU_ZEROS: and where they are, nobody asks for the gradient
    ACTIVE, ACTIVE_LD,  # [threads, inputs]: zero for an input that is zero in all of the thread's rows
    SHARES,  # address of int64 [threads + 1]: thread t updates rows SHARES[t] to SHARES[t + 1] - 1 of the kernel
    SLICE_AT,  # where a slice of SLICES has the gradient by the kernel, and behind it that by the bias
    OP_WORDS,
) = range(46)  # fmt: skip
SOME_ZEROS, RELU_ZEROS = 1, 2

# ---- a metric --------------------------------------------------------------------------------------------------------
METRIC_CODE, METRIC_NUMBERS, METRIC_WEIGHTED = range(3)
METRIC_SUMS, METRIC_FIRST, METRIC_WORDS = range(3, 6)  # how many series it has, and which is the first

# ---- a list of jobs --------------------------------------------------------------------------------------------------
# How often a thread has asked for a job, 0 at first; how many there are; the address of the entry that runs one; theirs
TAKEN, JOBS, RUN, JOBS_AT = range(4)

# ---- work memory -----------------------------------------------------------------------------------------------------
CHUNK = 512  # columns of a weight gradient that are computed, and used up, at a time
BLOCK = 28  # rows of it: two of the tallest tiles; of a column, CHUNK
FEW, PART = 4, 64  # outputs up to which dot tiles go forward as well, and samples of which those are computed at a time
PANEL = 4_096  # floats of a copied panel of the right operand, which stays in the first cache: 16 KiB
PACKED = 49_152  # floats of a copied block of the left one, and of a gradient that comes of it, for the second: 192 KiB
PACKED_CHUNK = 256  # columns of such a gradient
TILE = 128  # rows of a column that a thread updates at least: their sums run side by side, and fewer are no quicker
SLICED = 4  # slices: a long batch has a multiple of so many, for as many threads
WIDE = 128  # outputs from which on it pays to look for inputs that are zero
SPARE = 16  # numbers that can be read behind the end of a list of indices, IDENTITY too


def slices_of(samples, long, most):
    """Return in how many slices of at most ``most`` so many samples go through the network; 1: as they are."""
    return 1 if most == 0 or samples <= long else (samples + SLICED * most - 1) // (SLICED * most) * SLICED


def work_sizes(batch, widest):
    """Return how many elements of LISTS (int64), GRADIENTS, PANELS and COPIES (float32) a thread needs."""
    return (
        widest + SPARE,
        max(BLOCK * CHUNK, PACKED),
        max(BLOCK * batch, CHUNK),
        max(FEW * (widest + PART), PANEL + PACKED),
    )
