// rmsprop: v += (g^2 - v)(1 - rho); d = r g / sqrt(v + epsilon); w = decay w - d
//   centred: mean += (g - mean)(1 - rho), and v - mean^2 takes v's place under the root
//   with momentum: u = momentum u + d, and u takes d's place
//
// params, grads, v, u, mean [count], u and mean null where unused; scalars[0] = r, scalars[1] = decay, as in adam.cu.
#include "primitives.cuh"

KERNEL(rmsprop)(Global<float> params, Global<const float> grads, Global<float> v, Global<float> u, Global<float> mean,
                Global<const float> scalars, long long count, float keep, float momentum, float epsilon) {
    float rate = scalars[0], decay = scalars[1];
    for (long long e = first_element(); e < count; e += element_stride()) {
        float g = grads[e], square = v[e];
        square += (g * g - square) * keep;
        v[e] = square;
        if (mean) {
            float centre = mean[e];
            centre += (g - centre) * keep;
            mean[e] = centre;
            square -= centre * centre;
        }
        float change = rate * (g / sqrtf(square + epsilon));
        if (u) {
            change = momentum * u[e] + change;
            u[e] = change;
        }
        params[e] = decay * params[e] - change;
    }
}
