// sgd: w = decay w - r g; with momentum: u = momentum u - r g, w = decay w + u (nesterov: + momentum u - r g)
//
// params, grads, u [count], u null without momentum; scalars[0] = r, the learning rate; scalars[1] = decay, as in adam.cu.
#include "optimizers.cuh"

KERNEL(sgd)(Global<float> params, Global<const float> grads, Global<float> u, Global<const float> scalars,
            long long count, float momentum, long long nesterov) {
    begin();
    Sgd sgd{scalars[0], scalars[1], momentum, bool(u), nesterov != 0};
    long long quads = VECTOR ? count / 4 : 0;
    for (long long q = first_element(); q < quads; q += element_stride()) {
        float4 w4 = load4(params, 4 * q), g4 = load4(grads, 4 * q), u4 = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (u) u4 = load4(u, 4 * q);
        sgd.step(w4.x, g4.x, u4.x);
        sgd.step(w4.y, g4.y, u4.y);
        sgd.step(w4.z, g4.z, u4.z);
        sgd.step(w4.w, g4.w, u4.w);
        store4(params, 4 * q, w4);
        if (u) store4(u, 4 * q, u4);
    }
    for (long long e = 4 * quads + first_element(); e < count; e += element_stride()) {
        float w1 = params[e], u1 = 0.0f;
        if (u) u1 = u[e];
        sgd.step(w1, grads[e], u1);
        params[e] = w1;
        if (u) u[e] = u1;
    }
}
