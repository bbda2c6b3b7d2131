// activation_forward: y = f(z); activation_backward: dy becomes dy * f'(z), in place
//
// Elementwise over [rows, row]: one element per thread and turn. ``of`` is the retained output, or the pre-activation for
// the functions that need it (``from_input``). A layer of its own (Activation, Rescaling, Flatten's copy) comes here;
// a dense layer's activation is in its own epilogue.
#include "activations.cuh"

KERNEL(activation_forward)(Global<float> y, Global<const float> z, Global<const int> live, long long rows,
                           long long multiple, long long row, long long kind, float a, float b) {
    begin();
    long long count = live_rows(live, rows, multiple) * row;
    for (long long e = first_element(); e < count; e += element_stride()) y[e] = activate((int)kind, z[e], a, b);
}

KERNEL(activation_backward)(Global<float> dy, Global<const float> of, Global<const int> live, long long rows,
                            long long multiple, long long row, long long kind, long long from_input, float a) {
    begin();
    long long count = live_rows(live, rows, multiple) * row;
    for (long long e = first_element(); e < count; e += element_stride()) {
        float slope = from_input ? slope_from_input((int)kind, of[e]) : slope_from_output((int)kind, of[e], a);
        dy[e] = dy[e] * slope;
    }
}
