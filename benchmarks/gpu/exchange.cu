// What kernels/exchange.cuh costs: its exchange and its barrier, again and again, as the whole-fit kernel has them.
//
// It is compiled behind that header, with the header's constants: TAGS, THREADS, PATIENCE, and GROUP as block_count(), so
// that one compile serves every number of blocks. All blocks of the launch are a group. AROUND packets go around.
// Where blocks wait in vain, failures[0] is 1 and the launch ends.

// Round after round a block adds 1 to the values that are its own, publishes them, and collects all: so values[3 AROUND],
// in and out, tell whether every packet of every round has come. packets[2, AROUND] and arrivals[1] begin as zeros.
KERNEL(rounds)(Global<Packet> packets, Global<uint32> arrivals, Global<float> values, Global<uint32> failures,
               long long count) {
    SHARED(float, gathered, 3 * AROUND);
    Exchange exchange{packets, arrivals, AROUND, 0, 0};
    int share = (AROUND + (int)block_count() - 1) / (int)block_count(), begin = share * (int)block_index();
    int end = begin + share < AROUND ? begin + share : AROUND;
    for (int i = thread_index(); i < 3 * AROUND; i += THREADS) gathered[i] = values[i];
    barrier();
    bool well = true;
    for (long long round = 1; well && round <= count; ++round) {
        exchange.begin_step((uint32)round);
        for (int i = begin + thread_index(); i < end; i += THREADS)
            exchange.publish(i, gathered[3 * i] + 1.0f, gathered[3 * i + 1] + 1.0f, gathered[3 * i + 2] + 1.0f);
        exchange.sent();
        well = exchange.collect<AROUND>(0, false, [&](int i, const Packet &p) {
            gathered[3 * i] = p.a, gathered[3 * i + 1] = p.b, gathered[3 * i + 2] = p.c;
        });
    }
    exchange.arrive();
    if (!well || !exchange.all_arrived()) {
        if (thread_index() == 0) failures[0] = 1;
        return;
    }
    if (block_index() == 0)  // what is written now has been read by all
        for (int i = thread_index(); i < 3 * AROUND; i += THREADS) values[i] = gathered[i];
}

KERNEL(barriers)(Global<Packet> packets, Global<uint32> arrivals, Global<uint32> failures, long long count) {
    Exchange exchange{packets, arrivals, AROUND, 0, 0};
    bool well = true;
    for (long long round = 1; well && round <= count; ++round) {
        exchange.arrive();
        well = exchange.all_arrived();
    }
    if (!well && thread_index() == 0) failures[0] = 1;
}
