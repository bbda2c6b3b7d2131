// Updates of one parameter: what the arena's kernels and the whole-fit kernel share. Formulas: adam.cu, sgd.cu.
#pragma once
#include "primitives.cuh"

struct Adam {
    float alpha, decay, keep_1, keep_2, epsilon;  // keep: 1 - beta
    DEVICE void step(float &w, float g, float &m, float &v) const {
        m += (g - m) * keep_1;
        v += (g * g - v) * keep_2;
        w = decay * w - alpha * m / (sqrtf(v) + epsilon);
    }
};

struct Sgd {
    float rate, decay, momentum;
    bool moving, nesterov;
    DEVICE void step(float &w, float g, float &u) const {
        float change = -rate * g;
        if (moving) {
            u = momentum * u + change;
            change = nesterov ? momentum * u + change : u;
        }
        w = decay * w + change;
    }
};
