// What formulas are written in beside C's own functions: the names that gpumlp/backends/writer.py uses. NaN goes through
// all of them as it goes through NumPy's.
#pragma once
#include "primitives.cuh"

constexpr float LARGEST = 3.4028235e38f;

// Of a number and one that the compiler knows, one comparison is left.
DEVICE float maximum(float a, float b) { return a <= b || b != b ? b : a; }
DEVICE float minimum(float a, float b) { return a >= b || b != b ? b : a; }
DEVICE float clip(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }
DEVICE float sign(float v) { return v > 0.0f ? 1.0f : (v < 0.0f ? -1.0f : v); }
DEVICE float step(float v) { return v > 0.0f ? 1.0f : (v == v ? 0.0f : v); }
DEVICE float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }
DEVICE float softplus(float z) { return log1pf(expf(-fabsf(z))) + maximum(z, 0.0f); }

// The first place of the largest value, NaN being larger than any number, as NumPy's argmax says.
struct Best {
    float value = 0.0f;
    int place = -1;
    DEVICE void take(float v, int at) {
        bool mine = value != value, theirs = v != v;
        bool better = mine != theirs ? theirs : (mine ? at < place : v > value || (v == value && at < place));
        if (place < 0 || better) value = v, place = at;
    }
};

// The best of a group of ``lanes`` threads; -1 if none has taken anything.
DEVICE int group_argmax(Best best, int lanes) {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
        float v = shuffle_xor(best.value, mask);
        int at = shuffle_xor(best.place, mask);
        if (at >= 0) best.take(v, at);
    }
    return best.place;
}

// Numbers of one row that are returned together.
template <int N> struct Several {
    float at[N];
};
