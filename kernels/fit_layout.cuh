// What one network's whole-fit kernel knows when it is compiled: the sizes of its layers, and who owns what.
//
// Everything here comes from macros that gpumlp/engine/fit_plan.py writes, one list per property with an entry per layer:
//
//   WIDTHS         features that go into layer 0, 1, ..., and come out of the last
//   KINDS          which of the network's activations (formulas.cuh); NEEDS_Z: whether its slope is computed from z
//   TRAINS         1: the kernel trains, 2: the bias trains, 3: both; BIASES: whether there is one
//   KERNEL_PENALTIES, BIAS_PENALTIES   which of the network's penalties, -1 for none
//   KERNEL_AT, BIAS_AT   places in the arena; PENALTY_AT: a layer's first place among the penalties
//   INPUTS_AT, OWN_AT, Z_AT, COLUMNS_AT, ROWS_AT, DELTA_AT, OWN_DELTA_AT   places in shared memory, in floats
//   RELOADS        whether the layer's inputs must be collected again for the way back
//   FORWARD_AT, BACKWARD_AT   where the packets of the layer's outputs, and of the gradients by them, stand
//   MEETS          whether the loss reads what other lanes wrote of the predictions
//   RUN_FIRST, RUN_COUNT      runs of layers that are alike, one entry per run
//   SUMS_AT, SUMS_WEIGHTED    for each of the metrics' sums, where it is logged, and whether sample weights count
//
// Layers of a run share their code: a loop goes over them, and their places are looked up. Only what keeps state in
// registers is written out for each layer. A step's code must stay in a multiprocessor's instruction cache, some 100 KB:
// a kernel that is unrolled over its layers is fetched from memory anew at every step.
#pragma once
#include "primitives.cuh"

constexpr int WIDTH[] = {WIDTHS}, KIND[] = {KINDS}, OF_Z[] = {NEEDS_Z}, TRAIN[] = {TRAINS}, HAS_BIAS[] = {BIASES};
constexpr int KERNEL_PENALTY[] = {KERNEL_PENALTIES}, BIAS_PENALTY[] = {BIAS_PENALTIES};
constexpr int AT_KERNEL[] = {KERNEL_AT}, AT_BIAS[] = {BIAS_AT}, FIRST[] = {RUN_FIRST}, COUNT[] = {RUN_COUNT};
constexpr int SUM_AT[] = {SUMS_AT}, SUM_WEIGHTED[] = {SUMS_WEIGHTED};
// looked up by a layer's number when the kernel runs
CONSTANT int AT_PENALTY[] = {PENALTY_AT}, AT_INPUTS[] = {INPUTS_AT}, AT_OWN[] = {OWN_AT}, AT_Z[] = {Z_AT};
CONSTANT int AT_COLUMNS[] = {COLUMNS_AT}, AT_ROWS[] = {ROWS_AT}, AT_DELTA[] = {DELTA_AT};
CONSTANT int AT_OWN_DELTA[] = {OWN_DELTA_AT}, AT_FORWARD[] = {FORWARD_AT}, AT_BACKWARD[] = {BACKWARD_AT};
CONSTANT int RELOAD[] = {RELOADS};

DEVICE constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
DEVICE constexpr int round_up(int a, int b) { return divide_up(a, b) * b; }
DEVICE constexpr int at_most(int a, int b) { return a < b ? a : b; }
// The power of two that covers ``count``, at most a warp: how many neighbouring threads share a sum of so many parts.
DEVICE constexpr int lanes_for(int count) {
    int lanes = 1;
    while (lanes < count && lanes < 32) lanes *= 2;
    return lanes;
}
// How many of ``count`` neighbouring columns a thread takes at a time: more of them share what is read, fewer are dealt
// out more evenly, so that less state has its place in registers.
DEVICE constexpr int chunk_for(int count) { return count >= 3 && MOST_AT_ONCE == 4 ? 4 : at_most(count, 2); }

// How many rows of N sums are read before they are added, so that their loads are under way together: of those numbers
// that the batch is a multiple of, the largest.
DEVICE constexpr int rows_at_once(int n) {
    int most = at_most(BATCH, divide_up(10, n)), rows = most;
    while (BATCH % rows) --rows;
    return 2 * rows < most ? most : rows;
}

constexpr int LAST = LAYERS - 1;
constexpr bool ALONE = GROUP == 1;  // one block has the whole network: nothing is exchanged
constexpr int TRIPLES = divide_up(BATCH, 3);  // a packet is three samples of a column
constexpr int LOGGER = GROUP - 1;             // the block that writes losses and metrics: the last one owns least

template <int L> struct Layer {
    static constexpr int INPUTS = WIDTH[L], OUTPUTS = WIDTH[L + 1];
    // Rows of so many floats in shared memory: whole 16 bytes, what is beyond the width holds zeros.
    static constexpr int IN = round_up(INPUTS, 4), OUT = round_up(OUTPUTS, 4);
    static constexpr bool WHOLE = L == LAST && LAST_IS_WHOLE;  // every block computes all outputs
    // A block's own columns of the kernel, and its own rows: those of the inputs that are its outputs of the layer below.
    // It keeps both, updates both, and so never needs another block's weights: what stands in two blocks is computed in
    // the same order, to the same bits.
    static constexpr int COLUMNS = WHOLE ? OUTPUTS : divide_up(OUTPUTS, GROUP);
    static constexpr int ROWS = L == 0 ? 0 : divide_up(INPUTS, GROUP);
    static constexpr bool EVEN = OUTPUTS == GROUP * COLUMNS, EVEN_BELOW = INPUTS == GROUP * ROWS;  // all own as many
    static constexpr int SLICE = round_up(COLUMNS, 4), SLICE_BELOW = round_up(ROWS, 4);
    // A column's weights, then its bias and the optimizer's state of that.
    static constexpr int COLUMN = IN + round_up(1 + SLOTS, 4);
    static constexpr bool EXCHANGED = !WHOLE && !ALONE;
    static constexpr bool KEEPS_Z = OF_Z[L];
    static constexpr bool PENALISED = KERNEL_PENALTY[L] >= 0 || BIAS_PENALTY[L] >= 0;

    // The update's work is cut into units: a line of the columns (one input) in some neighbouring columns, or a column of
    // the rows in some neighbouring rows. A thread has its units for the whole launch, and their optimizer state in
    // registers. Biases are no units: a line more, for one thread in many, would be a round more for all.
    static constexpr int CHUNK = chunk_for(COLUMNS), CHUNK_BELOW = chunk_for(ROWS);
    static constexpr int COLUMN_UNITS = (TRAIN[L] & 1) ? INPUTS * divide_up(COLUMNS, CHUNK) : 0;
    static constexpr int ROW_UNITS = L > 0 && (TRAIN[L] & 1) ? OUTPUTS * divide_up(ROWS, CHUNK_BELOW) : 0;
    static constexpr bool WHOLE_CHUNKS = (WHOLE || EVEN) && COLUMNS % CHUNK == 0;
    static constexpr bool WHOLE_CHUNKS_BELOW = EVEN_BELOW && CHUNK_BELOW && ROWS % CHUNK_BELOW == 0;
    static constexpr int UNITS = COLUMN_UNITS + ROW_UNITS, EACH = divide_up(UNITS, THREADS);
    static constexpr int WIDE = CHUNK > CHUNK_BELOW ? CHUNK : CHUNK_BELOW;
};

// The optimizer state of a thread's units, of layer L and all above.
using State = float[SLOTS > 0 ? SLOTS : 1];
template <int L> struct States : States<L + 1> {
    State of[Layer<L>::EACH ? Layer<L>::EACH : 1][Layer<L>::WIDE];
};
template <> struct States<LAYERS> {};
