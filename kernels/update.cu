// update: the optimizer's step over a stretch of the flat arena at once: params and its SLOTS arrays of state, from grads
//
// All are [count]. scalars[SCALARS] are the step's numbers, such as its learning rate, computed once per step on the host
// in double precision. 16-byte accesses: for Adam 7 of them move 28 bytes per parameter, and that traffic is the cost.
#include "formulas.cuh"

constexpr int ARRAYS = 2 + SLOTS;  // weights, gradients, state

KERNEL(update)(Global<float> params, Global<const float> grads, Slots slots, Global<const float> scalars,
               long long count, Numbers numbers) {
    begin();
    float rates[SCALARS > 0 ? SCALARS : 1], state[SLOTS > 0 ? SLOTS : 1];
#pragma unroll
    for (int i = 0; i < SCALARS; ++i) rates[i] = scalars[i];
    long long quads = VECTOR ? count / 4 : 0;
#pragma unroll 2  // the loads of two are under way together
    for (long long q = first_element(); q < quads; q += element_stride()) {
        float of[ARRAYS][4];
        load_quad(params, 4 * q, of[0]);
        load_quad(grads, 4 * q, of[1]);
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) load_quad(slots.at[s], 4 * q, of[2 + s]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) state[s] = of[2 + s][i];
            update_of(of[0][i], of[1][i], state, rates, numbers);
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) of[2 + s][i] = state[s];
        }
        store_quad(params, 4 * q, of[0]);
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) store_quad(slots.at[s], 4 * q, of[2 + s]);
    }
    for (long long e = 4 * quads + first_element(); e < count; e += element_stride()) {
        float w = params[e];
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) state[s] = slots.at[s][e];
        update_of(w, grads[e], state, rates, numbers);
        params[e] = w;
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) slots.at[s][e] = state[s];
    }
}
