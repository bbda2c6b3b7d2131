// One block of the whole-fit kernel (fit.cu): its share of every step. Methods are called by all its threads.
//
// ``l`` is a layer; template argument L is the first one of its run, which has the same sizes.
#pragma once

// Rows are summed in whole quads: what is beyond their columns must be zeros.
DEVICE void clear_padding(Shared<float> a, int columns, int ld) {
    int more = ld - columns;
    for (int e = thread_index(); e < BATCH * more; e += THREADS) a[e / more * ld + columns + e % more] = 0.0f;
}

// Collect the packets of COLUMNS columns of B samples into to[B, LD].
template <int COLUMNS, int LD> CALLED bool collect(Exchange exchange, int from, Shared<float> to, bool again) {
    if (LD > COLUMNS) {
        barrier();
        clear_padding(to, COLUMNS, LD);
    }
    auto take = [&](int i, const Packet &p) {
        int t = i / COLUMNS, at = 3 * t * LD + i % COLUMNS;
        to[at] = p.a;
        if (3 * t + 1 < BATCH) to[at + LD] = p.b;
        if (3 * t + 2 < BATCH) to[at + 2 * LD] = p.c;
    };
    return exchange.collect<TRIPLES * COLUMNS>(from, again, take);
}

struct Block {
    Global<const Member> m;  // read where it is needed: its words would fill registers
    Shared<float> memory;
    int rank;  // in the group
    Numbers numbers;
    Exchange exchange;
    float rates[SCALARS > 0 ? SCALARS : 1];  // what the optimizer needs at this step
    int steps, step;    // of the launch; the one under way, from 0
    int rows, fetched;  // live samples of its batch; of the one that was fetched last

    // ---- what stands where -------------------------------------------------------------------------------------------
    template <int L> DEVICE int first() const { return Layer<L>::WHOLE ? 0 : rank * Layer<L>::COLUMNS; }
    template <int L> DEVICE int own() const {
        using Y = Layer<L>;
        return Y::WHOLE || Y::EVEN ? Y::COLUMNS : at_most(Y::COLUMNS, Y::OUTPUTS - first<L>());
    }
    template <int L> DEVICE int own_below() const {
        using Y = Layer<L>;
        return Y::EVEN_BELOW ? Y::ROWS : at_most(Y::ROWS, Y::INPUTS - rank * Y::ROWS);
    }
    DEVICE Shared<float> array(int at, int count) const { return part(memory, at, count); }
    // x, [B, IN]; of layer 0 twice where there is room: the next step's batch is fetched while this one's is in use
    template <int L> DEVICE Shared<float> inputs(int l, int of_step) const {
        constexpr int COUNT = BATCH * Layer<L>::IN;
        return array(AT_INPUTS[l] + (L == 0 && AHEAD ? (of_step & 1) * COUNT : 0), COUNT);
    }
    template <int L> DEVICE Shared<float> inputs(int l) const { return inputs<L>(l, step); }
    template <int L> DEVICE Shared<float> outputs(int l) const {  // y, where it is whole
        return array(L == LAST ? PREDICTIONS_AT : AT_INPUTS[l + 1], BATCH * Layer<L>::OUT);
    }
    template <int L> DEVICE Shared<float> own_outputs(int l) const { return array(AT_OWN[l], BATCH * Layer<L>::SLICE); }
    template <int L> DEVICE Shared<float> own_z(int l) const { return array(AT_Z[l], BATCH * Layer<L>::SLICE); }
    template <int L> DEVICE Shared<float> delta(int l) const { return array(AT_DELTA[l], BATCH * Layer<L>::OUT); }
    template <int L> DEVICE Shared<float> own_delta(int l) const {
        return array(AT_OWN_DELTA[l], BATCH * Layer<L>::SLICE);
    }
    template <int L> DEVICE Shared<float> columns(int l) const {
        return array(AT_COLUMNS[l], Layer<L>::COLUMNS * Layer<L>::COLUMN);
    }
    template <int L> DEVICE Shared<float> rows_of(int l) const { return array(AT_ROWS[l], Layer<L>::ROWS * Layer<L>::OUT); }
    DEVICE Shared<float> targets(int of_step) const {
        return array(TARGETS_AT + (of_step & 1) * BATCH * TARGETS, BATCH * TARGETS);
    }
    DEVICE Shared<float> sample_weights(int of_step) const { return array(WEIGHTS_AT + (of_step & 1) * BATCH, BATCH); }
    DEVICE Shared<float> logs() const { return array(LOGS_AT, SERIES * BATCH); }

    // ---- a batch -----------------------------------------------------------------------------------------------------
    // Fetch the batch of a step into its half.
    DEVICE void fetch(int of_step) {
        constexpr int F = WIDTH[0], LINE = F + TARGETS + 1, AT_ONCE = at_most(4, divide_up(BATCH * LINE, THREADS));
        Shared<float> x = inputs<0>(0, of_step), y = targets(of_step), w = sample_weights(of_step);
        uint32 nth = (uint32)m[0].first + of_step, batches = (uint32)m[0].batches, pass = nth / batches;
        long long start = (long long)(nth - pass * batches) * BATCH, left = m[0].samples - start;
        if (m[0].order) start += pass * m[0].samples;
        fetched = left < BATCH ? (int)left : BATCH;
        int count = fetched * LINE;
        for (int first = thread_index(); first < count; first += AT_ONCE * THREADS) {
            long long from[AT_ONCE];  // rows, then values: the loads of several are under way together
            float values[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                int r = at_most(first + j * THREADS, count - 1) / LINE;
                from[j] = m[0].order ? m[0].order[start + r] : start + r;
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                int c = at_most(first + j * THREADS, count - 1) % LINE;
                Global<const float> data = c < F ? m[0].x : c < F + TARGETS ? m[0].y : m[0].weights;
                long long at = c < F ? from[j] * F + c : c < F + TARGETS ? from[j] * TARGETS + c - F : from[j];
                values[j] = data ? data[at] : 1.0f;
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; ++j) {
                int e = first + j * THREADS, r = e / LINE, c = e % LINE;
                if (e >= count) break;
                if (c < F) x[r * Layer<0>::IN + c] = rescaled(values[j]);
                else if (c < F + TARGETS) y[r * TARGETS + c - F] = values[j];
                else w[r] = values[j];
            }
        }
    }

    // ---- forward -----------------------------------------------------------------------------------------------------
    template <int R> DEVICE bool forward_from() {
        for (int l = FIRST[R]; l < FIRST[R] + COUNT[R]; ++l)
            if (!forward<FIRST[R]>(l)) return false;
        if constexpr (R + 1 < RUNS) return forward_from<R + 1>();
        else return true;
    }
    template <int L> DEVICE bool forward(int l) {
        using Y = Layer<L>;
        Shared<float> weights = columns<L>(l), mine = own_outputs<L>(l), z = own_z<L>(l);
        auto finish = [&](int t, int c, float s0, float s1, float s2) {
            float s[3] = {s0, s1, s2}, bias = HAS_BIAS[L] ? weights[c * Y::COLUMN + Y::IN] : 0.0f;
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                float sum = s[i] + bias;
                s[i] = activate<KIND[L]>(sum, numbers);
                if (3 * t + i >= BATCH) continue;
                mine[(3 * t + i) * Y::SLICE + c] = s[i];
                if (Y::KEEPS_Z) z[(3 * t + i) * Y::SLICE + c] = sum;
            }
            if (Y::EXCHANGED) exchange.publish(AT_FORWARD[l] + t * Y::OUTPUTS + first<L>() + c, s[0], s[1], s[2]);
        };
        products<Y::COLUMNS, Y::IN / 4>(inputs<L>(l), Y::IN, weights, Y::COLUMN, own<L>(), finish);
        if (Y::EXCHANGED) exchange.sent();
        if (L == 0 && AHEAD && step + 1 < steps) fetch(step + 1);
        if constexpr (Y::EXCHANGED) return collect<Y::OUTPUTS, Y::OUT>(exchange, AT_FORWARD[l], outputs<L>(l), false);
        if (L < LAST && Y::OUT > Y::OUTPUTS) clear_padding(outputs<L>(l), Y::OUTPUTS, Y::OUT);
        barrier();
        return true;
    }

    // ---- the loss and what is written down -----------------------------------------------------------------------------
    DEVICE void objective() const {
        using Y = Layer<LAST>;
        constexpr int O = Y::OUTPUTS, LANES = lanes_for(O), AT_ONCE = THREADS / LANES;
        int lane = thread_index() % LANES;
        for (int before = 0; before < BATCH; before += AT_ONCE) {
            int r = before + thread_index() / LANES, row = at_most(r, BATCH - 1), end = r < rows ? O : 0;
            Shared<float> p = outputs<LAST>(LAST) + row * Y::OUT, dp = delta<LAST>(LAST) + row * Y::OUT;
            float weight = end && WEIGHTED ? sample_weights(step)[row] : 1.0f;
            Shared<float> z = Y::KEEPS_Z ? own_z<LAST>(LAST) + row * Y::SLICE : p;
            activate_row(z, p, O, end, lane, LANES, numbers);
            if (MEETS) barrier();
            float value = row_loss(targets(step) + row * TARGETS, p, dp, weight / (float)rows, O, end, lane, LANES, numbers);
            if (lane == 0 && r < BATCH) logs()[r] = r < rows ? value * weight : 0.0f;
            gradient_row(dp, p, z, O, end, lane, LANES, numbers);
        }
        if (Y::OUT > O) clear_padding(delta<LAST>(LAST), O, Y::OUT);
        barrier();
        if constexpr (Y::EXCHANGED)  // what is whole already is its own
            for (int e = thread_index(); e < BATCH * own<LAST>(); e += THREADS) {
                int r = e / own<LAST>(), c = e % own<LAST>();
                own_delta<LAST>(LAST)[r * Y::SLICE + c] = delta<LAST>(LAST)[r * Y::OUT + first<LAST>() + c];
            }
    }

    // Write the step's sums: by one block, behind an exchange.
    DEVICE void log() const {
        using Y = Layer<LAST>;
        constexpr int O = Y::OUTPUTS, LANES = lanes_for(O), AT_ONCE = THREADS / LANES;
        if (rank != LOGGER) return;
        int lane = thread_index() % LANES;
        for (int before = 0; SUMS > 0 && before < BATCH; before += AT_ONCE) {
            int r = before + thread_index() / LANES, row = at_most(r, BATCH - 1), end = r < rows ? O : 0;
            float weight = end && WEIGHTED ? sample_weights(step)[row] : 1.0f, sums[SUMS > 0 ? SUMS : 1];
            row_metrics(targets(step) + row * TARGETS, outputs<LAST>(LAST) + row * Y::OUT, sums, O, end, lane, LANES, numbers);
            if (lane != 0 || r >= BATCH) continue;
#pragma unroll
            for (int i = 0; i < SUMS; ++i)
                logs()[SUM_AT[i] * BATCH + r] = r >= rows ? 0.0f : SUM_WEIGHTED[i] ? sums[i] * weight : sums[i];
            if (DIVISOR_AT > 0) logs()[DIVISOR_AT * BATCH + r] = r < rows ? weight : 0.0f;
        }
        barrier();
        for (int s = thread_index() / 32; s < SERIES; s += THREADS / 32) {
            double sum = 0.0;
            for (int r = thread_index() % 32; r < BATCH; r += 32) sum += logs()[s * BATCH + r];
            for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
            if (thread_index() % 32 == 0) m[0].results[(long long)step * SERIES + s] = sum;
        }
    }

    // ---- backward ----------------------------------------------------------------------------------------------------
    template <int R> DEVICE bool backward_from(States<0> &states) {
        for (int l = FIRST[R] + COUNT[R] - 1; l >= FIRST[R]; --l)
            if (!backward<R>(l, states)) return false;
        if constexpr (R > 0) return backward_from<R - 1>(states);
        else return true;
    }
    template <int R> DEVICE bool backward(int l, States<0> &states) {
        constexpr int L = FIRST[R];
        using Y = Layer<L>;
        constexpr bool HANDS_ON = L > 1 && !ALONE;  // the layer below needs its gradient whole: it has one below itself
        if constexpr (L > 0) {
            gradient_below<L, HANDS_ON>(l);
            if (ALONE && Y::IN > Y::INPUTS) clear_padding(delta<L - 1>(l - 1), Y::INPUTS, Y::IN);
            if (HANDS_ON) exchange.sent();
        }
        if (L == LAST) log();
        if constexpr (L > 0 && !ALONE)
            if (RELOAD[l] && !collect<Y::INPUTS, Y::IN>(exchange, AT_FORWARD[l - 1], inputs<L>(l), true)) return false;
        if (!HANDS_ON || TAGS) barrier();  // what was read is updated now; arriving had a barrier
        if constexpr (Y::PENALISED) {
            penalties<L>(l);
            barrier();
        }
        update<L, COUNT[R]>(l, states);
        if constexpr (HANDS_ON) return collect<Y::INPUTS, Y::IN>(exchange, AT_BACKWARD[l - 1], delta<L - 1>(l - 1), false);
        barrier();
        return true;
    }

    // The gradient by a block's own outputs of the layer below, from the whole one by this layer's.
    template <int L, bool HANDS_ON> DEVICE void gradient_below(int l) {
        using Y = Layer<L>;
        using X = Layer<L - 1>;
        Shared<float> y = own_outputs<L - 1>(l - 1), z = own_z<L - 1>(l - 1), mine = own_delta<L - 1>(l - 1);
        auto finish = [&](int t, int c, float s0, float s1, float s2) {
            float s[3] = {s0, s1, s2};
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                int at = at_most(3 * t + i, BATCH - 1) * X::SLICE + c;
                s[i] = gradient<KIND[L - 1]>(s[i], y[at], X::KEEPS_Z ? z[at] : 0.0f, numbers);
                if (3 * t + i < BATCH) mine[at] = s[i];
            }
            if (HANDS_ON) exchange.publish(AT_BACKWARD[l - 1] + t * X::OUTPUTS + first<L - 1>() + c, s[0], s[1], s[2]);
        };
        products<Y::ROWS, Y::OUT / 4>(delta<L>(l), Y::OUT, rows_of<L>(l), Y::OUT, own_below<L>(), finish);
    }

    // A column's penalty, by a warp.
    template <int L> DEVICE void penalties(int l) const {
        using Y = Layer<L>;
        if (Y::WHOLE && rank != 0) return;
        int lane = thread_index() % 32;
        for (int c = thread_index() / 32; c < own<L>(); c += THREADS / 32) {
            Shared<float> w = columns<L>(l) + c * Y::COLUMN;
            float sum = penalty_of<KERNEL_PENALTY[L]>(w, Y::INPUTS, Y::INPUTS, lane, 32, numbers);
            if (HAS_BIAS[L]) sum += penalty_of<BIAS_PENALTY[L]>(w + Y::IN, 1, 1, lane, 32, numbers);
            if (lane == 0) m[0].penalties[(long long)step * PENALTIES + AT_PENALTY[l] + first<L>() + c] = sum;
        }
    }

    // ---- update ------------------------------------------------------------------------------------------------------
    // A unit's gradients are sums over the live samples b of s[b, c + j] x[b, k], its weights w[j ``apart``].
    struct Unit {
        int s, lds, x, ldx, w, apart, count;  // places in shared memory; how many of its chunk there are
    };
    template <int L> DEVICE Unit unit(int l, int i) const {
        using Y = Layer<L>;
        int of_thread = unhoisted(thread_index()) + i * THREADS, u = at_most(of_thread, Y::UNITS - 1);
        bool exists = of_thread == u;  // else it is as another one, and none of its chunk is there
        if (u < Y::COLUMN_UNITS) {
            int k = u % Y::INPUTS, c = u / Y::INPUTS * Y::CHUNK;
            int x = AT_INPUTS[l] + (L == 0 && AHEAD ? (step & 1) * BATCH * Y::IN : 0) + k;
            return {AT_OWN_DELTA[l] + c, Y::SLICE, x, Y::IN, AT_COLUMNS[l] + c * Y::COLUMN + k, Y::COLUMN,
                    !exists ? 0 : Y::WHOLE_CHUNKS ? Y::CHUNK : at_most(Y::CHUNK, own<L>() - c)};
        }
        u -= Y::COLUMN_UNITS;
        constexpr int EVERY = Y::CHUNK_BELOW ? Y::CHUNK_BELOW : 1;
        int below = L > 0 ? l - 1 : 0, o = u % Y::OUTPUTS, r = u / Y::OUTPUTS * EVERY;
        return {AT_OWN[below] + r, Y::SLICE_BELOW, AT_DELTA[l] + o, Y::OUT, AT_ROWS[l] + r * Y::OUT + o, Y::OUT,
                !exists ? 0 : Y::WHOLE_CHUNKS_BELOW ? EVERY : at_most(EVERY, own_below<L>() - r)};
    }
    // The sums of the first N units. Those of a unit that does not exist are made of another's numbers, and not used.
    template <int N, int EACH, int WIDE>
    DEVICE void add_up(const Unit (&units)[EACH], float (&sums)[EACH][WIDE]) const {
        auto add = [&](int b) {
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const Unit &u = units[i];
                float v[WIDE], x = memory[u.x + b * u.ldx];
                load_some<WIDE>(memory, u.s + b * u.lds, v);
#pragma unroll
                for (int j = 0; j < WIDE; ++j) sums[i][j] = multiply_add(v[j], x, sums[i][j]);
            }
        };
        if (rows == BATCH) {
#pragma unroll(rows_at_once(N))
            for (int b = 0; b < BATCH; ++b) add(b);
        } else {
#pragma unroll 1
            for (int b = 0; b < rows; ++b) add(b);
        }
    }
    // The biases of a block's columns, by the last threads, which have the fewest units.
    template <int L> DEVICE void update_biases(int l) const {
        using Y = Layer<L>;
        if (!HAS_BIAS[L] || !(TRAIN[L] & 2)) return;
        for (int c = THREADS - 1 - unhoisted(thread_index()); c < own<L>(); c += THREADS) {
            Shared<float> at = columns<L>(l) + c * Y::COLUMN + Y::IN, s = own_delta<L>(l) + c;
            float g = 0.0f;
#pragma unroll 4
            for (int b = 0; b < rows; ++b) g += s[b * Y::SLICE];
            if (Y::PENALISED) g += penalty_gradient<BIAS_PENALTY[L]>(at[0], numbers);
            State state;
            float w = at[0];
#pragma unroll
            for (int i = 0; i < SLOTS; ++i) state[i] = at[1 + i];
            update_of(w, g, state, rates, numbers);
            at[0] = w;
#pragma unroll
            for (int i = 0; i < SLOTS; ++i) at[1 + i] = state[i];
        }
    }
    // Layer l of a run of MORE layers from L on. They share this code, but for the registers that their state stands in.
    template <int L, int MORE> DEVICE void update(int l, States<0> &states) const {
        using Y = Layer<L>;
        update_biases<L>(l);
        if constexpr (Y::EACH > 0) {
            constexpr int EACH = Y::EACH, FEWER = EACH > 1 ? EACH - 1 : 1;
            Unit units[EACH];
            float sums[EACH][Y::WIDE] = {};
            State state[EACH][Y::WIDE];
            int some = 0;
#pragma unroll
            for (int i = 0; i < EACH; ++i) some |= (units[i] = unit<L>(l, i)).count;
            if (some == 0) return;
            if (EACH == 1 || units[EACH - 1].count) add_up<EACH>(units, sums);
            else add_up<FEWER>(units, sums);
            hand<false, L, MORE>(l, states, state);
#pragma unroll
            for (int i = 0; i < EACH; ++i)
#pragma unroll
                for (int j = 0; j < Y::WIDE; ++j) {
                    const Unit &u = units[i];
                    if (j >= u.count) continue;
                    float w = memory[u.w + j * u.apart], g = sums[i][j];
                    if (Y::PENALISED) g += penalty_gradient<KERNEL_PENALTY[L]>(w, numbers);
                    update_of(w, g, state[i][j], rates, numbers);
                    memory[u.w + j * u.apart] = w;
                }
            hand<true, L, MORE>(l, states, state);
        }
    }
    // Hand out the state of layer l, which is one of MORE from L on; or take it back.
    template <bool BACK, int L, int MORE, int EACH, int WIDE>
    DEVICE void hand(int l, States<0> &states, State (&state)[EACH][WIDE]) const {
        if (l == L || MORE == 1) {
            State(&kept)[EACH][WIDE] = static_cast<States<L> &>(states).of;
#pragma unroll
            for (int i = 0; i < EACH; ++i)
#pragma unroll
                for (int j = 0; j < WIDE; ++j)
#pragma unroll
                    for (int s = 0; s < SLOTS; ++s) {
                        if (BACK) kept[i][j][s] = state[i][j][s];
                        else state[i][j][s] = kept[i][j][s];
                    }
        } else if constexpr (MORE > 1) {
            hand<BACK, L + 1, MORE - 1>(l, states, state);
        }
    }

    // ---- from and to memory: once a launch -----------------------------------------------------------------------------
    // Call f(arena's place, shared memory's place, state, column) for each weight of the thread's units.
    template <int L, class F> DEVICE void each_weight(States<L> &states, F f) const {
        using Y = Layer<L>;
#pragma unroll
        for (int i = 0; i < Y::EACH; ++i) {
            Unit u = unit<L>(L, i);
            int n = unhoisted(thread_index()) + i * THREADS;  // else what is loaded by stays for what is saved by
            bool column = n < Y::COLUMN_UNITS;
            n -= column ? 0 : Y::COLUMN_UNITS;
            int k = column ? n % Y::INPUTS : n / Y::OUTPUTS * Y::CHUNK_BELOW + rank * Y::ROWS;
            int c = column ? n / Y::INPUTS * Y::CHUNK + first<L>() : n % Y::OUTPUTS;
#pragma unroll
            for (int j = 0; j < Y::WIDE; ++j) {
                if (j >= u.count) continue;
                int at = AT_KERNEL[L] + (column ? k * Y::OUTPUTS + c + j : (k + j) * Y::OUTPUTS + c);
                f(at, u.w + j * u.apart, states.of[i][j], column);
            }
        }
    }
    template <int L> DEVICE void load(States<0> &states) const {
        using Y = Layer<L>;
        for (int e = thread_index(); e < Y::COLUMNS * Y::COLUMN; e += THREADS) {
            int c = e / Y::COLUMN, k = e % Y::COLUMN, at = first<L>() + c;
            bool kernel = k < Y::INPUTS, bias = HAS_BIAS[L] && k >= Y::IN && k <= Y::IN + SLOTS, there = c < own<L>();
            Global<const float> from = m[0].params;
#pragma unroll
            for (int s = 0; s < SLOTS; ++s)
                if (k == Y::IN + 1 + s) from = m[0].slots.at[s];
            at += bias ? AT_BIAS[L] : AT_KERNEL[L] + k * Y::OUTPUTS;
            columns<L>(L)[e] = there && (kernel || bias) ? from[at] : 0.0f;
        }
        for (int e = thread_index(); e < Y::ROWS * Y::OUT; e += THREADS) {
            int r = e / Y::OUT, o = e % Y::OUT;
            bool there = o < Y::OUTPUTS && r < own_below<L>();
            rows_of<L>(L)[e] = there ? m[0].params[AT_KERNEL[L] + (rank * Y::ROWS + r) * Y::OUTPUTS + o] : 0.0f;
        }
        each_weight<L>(static_cast<States<L> &>(states), [&](int at, int, State &state, bool) {
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) state[s] = m[0].slots.at[s][at];
        });
        barrier();  // else the loads of all layers would be under way at once, each with a register to go to
        if constexpr (L < LAST) load<L + 1>(states);
    }
    template <int L> DEVICE void save(States<0> &states) const {
        each_weight<L>(static_cast<States<L> &>(states), [&](int at, int place, State &state, bool column) {
            if (!column || (Layer<L>::WHOLE && rank != 0)) return;
            m[0].params[at] = memory[place];
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) m[0].slots.at[s][at] = state[s];
        });
        bool biases = HAS_BIAS[L] && (TRAIN[L] & 2) && !(Layer<L>::WHOLE && rank != 0);
        for (int c = thread_index(); biases && c < own<L>(); c += THREADS) {
            Shared<float> at = columns<L>(L) + c * Layer<L>::COLUMN + Layer<L>::IN;
            m[0].params[AT_BIAS[L] + first<L>() + c] = at[0];
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) m[0].slots.at[s][AT_BIAS[L] + first<L>() + c] = at[1 + s];
        }
        if constexpr (L < LAST) save<L + 1>(states);
    }

    // ---- the launch --------------------------------------------------------------------------------------------------
    DEVICE void run(int count) {
        States<0> states;
        steps = count, step = 0;
        exchange = Exchange{m[0].packets, m[0].arrivals, PACKETS, 0, (uint32)m[0].awaited};
        load<0>(states);
        if (WIDTH[0] < Layer<0>::IN)
            for (int half = 0; half <= AHEAD; ++half) clear_padding(inputs<0>(0, half), WIDTH[0], Layer<0>::IN);
        fetch(0);
        barrier();
        bool well = true;
        while (well && step < steps) {
            rows = fetched;
#pragma unroll
            for (int i = 0; i < SCALARS; ++i) rates[i] = m[0].scalars[(long long)step * SCALARS + i];
            exchange.begin_step((uint32)(m[0].number + step));
            well = forward_from<0>();
            if (!well) break;
            objective();
            well = backward_from<RUNS - 1>(states);
            ++step;
            if (!AHEAD && well && step < steps) {
                fetch(step);
                barrier();
            }
        }
        if (!well) {
            exchange.give_up();
            return;
        }
        if (!ALONE && !exchange.all_are_well()) return;  // the model is as it was before the launch
        save<0>(states);  // what is written has been read by all
        if (rank == LOGGER && thread_index() == 0)
            m[0].results[(long long)steps * SERIES] = -0.5 - (double)(m[0].number + steps);
    }
};
