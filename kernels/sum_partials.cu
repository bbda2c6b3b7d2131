// sum_partials: dw[I, O], db[O] = sum over s of partial[S, I + 1, O], in the order s = 0, 1, 2, ...
//
// One thread per element of dw and db; db may be null, then its row of partial is left alone.
#include "primitives.cuh"

KERNEL(sum_partials)(Global<float> dw, Global<float> db, Global<const float> partial, long long splits,
                     long long inputs, long long outputs) {
    begin();
    long long weights = inputs * outputs, stride = weights + outputs, count = db ? stride : weights;
    for (long long e = first_element(); e < count; e += element_stride()) {
        float sum = partial[e];
        for (long long s = 1; s < splits; ++s) sum += partial[s * stride + e];
        if (e < weights) dw[e] = sum;
        else db[e - weights] = sum;
    }
}
