// rmsprop: v += (g^2 - v)(1 - rho); d = r g / sqrt(v + epsilon); w = decay w - d
//   centred: mean += (g - mean)(1 - rho), and v - mean^2 takes v's place under the root
//   with momentum: u = momentum u + d, and u takes d's place
//
// params, grads, v, u, mean [count], u and mean null where unused; scalars[0] = r, scalars[1] = decay, as in adam.cu.
#include "primitives.cuh"

struct Rmsprop {
    float rate, decay, keep, momentum, epsilon;  // keep: 1 - rho
    bool moving, centred;
    DEVICE void step(float &w, float g, float &v, float &u, float &mean) const {
        v += (g * g - v) * keep;
        float square = v;
        if (centred) {
            mean += (g - mean) * keep;
            square -= mean * mean;
        }
        float change = rate * (g / sqrtf(square + epsilon));
        if (moving) change = u = momentum * u + change;
        w = decay * w - change;
    }
};

KERNEL(rmsprop)(Global<float> params, Global<const float> grads, Global<float> v, Global<float> u, Global<float> mean,
                Global<const float> scalars, long long count, float keep, float momentum, float epsilon) {
    begin();
    Rmsprop rule{scalars[0], scalars[1], keep, momentum, epsilon, bool(u), bool(mean)};
    float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    long long quads = VECTOR ? count / 4 : 0;
    for (long long q = first_element(); q < quads; q += element_stride()) {
        float4 w4 = load4(params, 4 * q), g4 = load4(grads, 4 * q), v4 = load4(v, 4 * q), u4 = none, m4 = none;
        if (u) u4 = load4(u, 4 * q);
        if (mean) m4 = load4(mean, 4 * q);
        rule.step(w4.x, g4.x, v4.x, u4.x, m4.x);
        rule.step(w4.y, g4.y, v4.y, u4.y, m4.y);
        rule.step(w4.z, g4.z, v4.z, u4.z, m4.z);
        rule.step(w4.w, g4.w, v4.w, u4.w, m4.w);
        store4(params, 4 * q, w4);
        store4(v, 4 * q, v4);
        if (u) store4(u, 4 * q, u4);
        if (mean) store4(mean, 4 * q, m4);
    }
    for (long long e = 4 * quads + first_element(); e < count; e += element_stride()) {
        float w1 = params[e], v1 = v[e], u1 = 0.0f, m1 = 0.0f;
        if (u) u1 = u[e];
        if (mean) m1 = mean[e];
        rule.step(w1, grads[e], v1, u1, m1);
        params[e] = w1;
        v[e] = v1;
        if (u) u[e] = u1;
        if (mean) mean[e] = m1;
    }
}
