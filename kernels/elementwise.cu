// elementwise: out[e] = what formulas.cuh makes of element e of the inputs, over [rows, row]; out may be one of them
//
// A layer of its own (Activation, Rescaling, Flatten's copy) comes here forward, and what dense_backward.cu does not do
// where it reads dy; a dense layer's activation is in its own epilogue.
#include "primitives.cuh"

struct Inputs {
    Global<const float> dy, y, z;  // those that the formula reads
};

#include "formulas.cuh"

KERNEL(elementwise)(Global<float> out, Inputs inputs, Global<const int> live, long long rows, long long multiple,
                    long long row, Numbers numbers) {
    begin();
    long long count = live_rows(live, rows, multiple) * row;
    for (long long e = first_element(); e < count; e += element_stride()) out[e] = element(inputs, e, numbers);
}
