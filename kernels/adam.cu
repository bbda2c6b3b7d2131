// adam: m += (g - m)(1 - beta_1); v += (g^2 - v)(1 - beta_2); w = decay w - alpha m / (sqrt(v) + epsilon)
//
// Over a stretch of the flat arena at once: params, grads, m, v [count]. scalars[0] = alpha, the step's learning rate with
// both bias corrections; scalars[1] = decay, 1 - learning_rate * weight_decay, or 1. Both are computed once per step on
// the host in double precision. 16-byte accesses: 7 of them move 28 bytes per parameter, and that traffic is the cost.
#include "optimizers.cuh"

KERNEL(adam)(Global<float> params, Global<const float> grads, Global<float> m, Global<float> v,
             Global<const float> scalars, long long count, float keep_1, float keep_2, float epsilon) {
    begin();
    Adam adam{scalars[0], scalars[1], keep_1, keep_2, epsilon};
    long long quads = VECTOR ? count / 4 : 0;
    for (long long q = first_element(); q < quads; q += element_stride()) {
        float4 w4 = load4(params, 4 * q), g4 = load4(grads, 4 * q), m4 = load4(m, 4 * q), v4 = load4(v, 4 * q);
        adam.step(w4.x, g4.x, m4.x, v4.x);
        adam.step(w4.y, g4.y, m4.y, v4.y);
        adam.step(w4.z, g4.z, m4.z, v4.z);
        adam.step(w4.w, g4.w, m4.w, v4.w);
        store4(params, 4 * q, w4);
        store4(m, 4 * q, m4);
        store4(v, 4 * q, v4);
    }
    for (long long e = 4 * quads + first_element(); e < count; e += element_stride()) {
        float w1 = params[e], m1 = m[e], v1 = v[e];
        adam.step(w1, grads[e], m1, v1);
        params[e] = w1;
        m[e] = m1;
        v[e] = v1;
    }
}
