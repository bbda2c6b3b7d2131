// What else could make blocks wait for each other and hand 20 KB of activations around than kernels/exchange.cuh, which
// exchange.cu measures: a barrier of flags, and clusters.
//
// Each kernel repeats its exchange ``rounds`` times, so that the launch vanishes in the mean. Whatever waits gives up
// after PATIENCE polls and reports it in failures[0], as a benchmark that hangs says nothing. No headers: NVRTC has none.
//
// EXCHANGED values of 4 bytes go around: 20 samples x 256 outputs. THREADS threads in every block.

typedef unsigned int uint32;
typedef unsigned long long uint64;

#ifndef THREADS
#define THREADS 512
#endif
constexpr int EXCHANGED = 5120;
constexpr int PATIENCE = 1 << 22;          // polls of device memory; one takes some 0.7 us, so seconds
constexpr int CLUSTER_PATIENCE = 1 << 14;  // polls of an mbarrier, which sleep in hardware for a while
static_assert(EXCHANGED % 64 == 0, "up to 16 blocks of a cluster have equally many quads each");

extern "C" __global__ void empty() {}

extern "C" __global__ void sixteen(float *, float *, float *, float *, float *, float *, float *, float *, long long,
                                   long long, long long, long long, long long, long long, float, float) {}

// Keeps the device busy while the host queues what will be timed.
extern "C" __global__ void spin(long long nanoseconds) {
    long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (now - begin < nanoseconds);
}

// How many nanoseconds so many cycles take: out[0], one thread.
extern "C" __global__ void ticks(long long cycles, long long *out) {
    long long begin, end, start = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin)::"memory");
    while (clock64() - start < cycles)
        ;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(end)::"memory");
    out[0] = end - begin;
}

// ---- a barrier over the grid: one block per multiprocessor or fewer, launched cooperatively ------------------------
//
// A flag per block, 128 bytes apart, and thread t of every block waits for block t's: no atomics, no line that all write.

__device__ __forceinline__ void store_release(uint32 *p, uint32 v) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
__device__ __forceinline__ uint32 load_acquire(const uint32 *p) {
    uint32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

__device__ __forceinline__ bool flags_barrier(uint32 *state, uint32 round) {
    bool all = true;
    __syncthreads();
    if (threadIdx.x == 0) store_release(state + 32 * blockIdx.x, round);
    if (threadIdx.x < gridDim.x)
        for (int polls = 0; all && load_acquire(state + 32 * threadIdx.x) < round;) all = ++polls < PATIENCE;
    return __syncthreads_and(all);
}

// state: zeros. With ``mail`` (2 x blocks words), every round's word of the right neighbour must have come: a check of the
// barrier, and not part of what is timed. Two halves, as a block is at most one round ahead of another.
extern "C" __global__ void grid_barrier(uint32 *state, uint32 *mail, uint32 *failures, int rounds) {
    for (uint32 round = 1; round <= (uint32)rounds; ++round) {
        uint32 *half = mail + (round & 1) * gridDim.x;
        if (mail && threadIdx.x == 0) half[blockIdx.x] = round;
        if (!flags_barrier(state, round)) {  // the others will lose patience too: this block does not come back
            if (threadIdx.x == 0) atomicAdd(failures, 1u);
            return;
        }
        if (mail && threadIdx.x == 0) {
            uint32 got = *(volatile uint32 *)(half + (blockIdx.x + 1) % gridDim.x);
            if (got != round) atomicAdd(failures, 1u);
        }
    }
}

// ---- clusters: Hopper and later ---------------------------------------------------------------------------------------
//
// One cluster, its blocks on multiprocessors that reach each other's shared memory.

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ uint32 cluster_rank() {
    uint32 v;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
    return v;
}
__device__ __forceinline__ uint32 cluster_size() {
    uint32 v;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(v));
    return v;
}
__device__ __forceinline__ void cluster_wait_all() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ uint32 shared_address(const void *p) { return (uint32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ uint32 address_in(uint32 rank, uint32 address) {
    uint32 v;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(v) : "r"(address), "r"(rank));
    return v;
}
__device__ __forceinline__ void barrier_init(uint32 bar) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void expect_bytes(uint32 bar, uint32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ bool phase_done(uint32 bar, uint32 parity) {
    uint32 done;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(bar), "r"(parity)
        : "memory");
    return done;
}
__device__ __forceinline__ void store_async(uint32 to, float4 v, uint32 bar) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(bar)
                 : "memory");
}
__device__ __forceinline__ void store_remote(uint32 to, float4 v) {
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
}

// Each block sends its share of the values to all blocks, EXCHANGED / 4 quads in all, however large the cluster. A round's
// values are those of the round before plus 1, read from the half that came before: what is sent depends on what came.
template <bool ASYNC>
__device__ __forceinline__ void send(const float *from, const float *to, uint32 rank, uint32 blocks, uint32 bar) {
    int quads = EXCHANGED / 4 / blocks;
    for (int s = threadIdx.x; s < EXCHANGED / 4; s += THREADS) {
        int at = 4 * (rank * quads + s % quads), target = s / quads;
        float4 v = *(const float4 *)(from + at);
        v.x += 1.0f, v.y += 1.0f, v.z += 1.0f, v.w += 1.0f;
        if (ASYNC) store_async(address_in(target, shared_address(to + at)), v, address_in(target, bar));
        else store_remote(address_in(target, shared_address(to + at)), v);
    }
}
#endif

// barrier.cluster alone
extern "C" __global__ void __launch_bounds__(THREADS) cluster_barrier(float *values, uint32 *failures, int rounds) {
#if __CUDA_ARCH__ >= 900
    for (int round = 0; round < rounds; ++round) cluster_wait_all();
    if (cluster_rank() == 0)
        for (int i = threadIdx.x; i < EXCHANGED; i += THREADS) values[i] += (float)rounds;
#endif
}

// stores into the other blocks' shared memory, then barrier.cluster
extern "C" __global__ void __launch_bounds__(THREADS) cluster_stores(float *values, uint32 *failures, int rounds) {
#if __CUDA_ARCH__ >= 900
    __shared__ __align__(16) float halves[2][EXCHANGED];
    for (int i = threadIdx.x; i < EXCHANGED; i += THREADS) halves[0][i] = values[i];
    cluster_wait_all();
    for (int round = 0; round < rounds; ++round) {
        send<false>(halves[round & 1], halves[~round & 1], cluster_rank(), cluster_size(), 0);
        cluster_wait_all();
    }
    if (cluster_rank() == 0)
        for (int i = threadIdx.x; i < EXCHANGED; i += THREADS) values[i] = halves[rounds & 1][i];
#endif
}

// st.async into the other blocks' shared memory; each block waits on its own mbarrier until all bytes have come. A block
// sends round r + 1 only when round r has come from all, who thus have read round r - 1: two halves and barriers do.
extern "C" __global__ void __launch_bounds__(THREADS) cluster_async(float *values, uint32 *failures, int rounds) {
#if __CUDA_ARCH__ >= 900
    __shared__ __align__(16) float halves[2][EXCHANGED];
    __shared__ __align__(8) uint64 bars[2];
    if (threadIdx.x == 0) {
        barrier_init(shared_address(&bars[0]));
        barrier_init(shared_address(&bars[1]));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    for (int i = threadIdx.x; i < EXCHANGED; i += THREADS) halves[0][i] = values[i];
    __syncthreads();
    cluster_wait_all();  // every block's barriers stand before anything is sent
    bool failed = false;
    for (int round = 0; round < rounds && !failed; ++round) {
        int into = ~round & 1;
        uint32 bar = shared_address(&bars[into]);
        if (threadIdx.x == 0) expect_bytes(bar, EXCHANGED * 4);
        send<true>(halves[round & 1], halves[into], cluster_rank(), cluster_size(), bar);
        int polls = 0;
        while (!phase_done(bar, (round >> 1) & 1) && !failed) failed = ++polls > CLUSTER_PATIENCE;
        if (failed) atomicAdd(failures, 1u);
        failed = __syncthreads_or(failed);  // all threads have read what they send before the half is sent to again
    }
    cluster_wait_all();  // nobody leaves while its shared memory is still written to
    if (cluster_rank() == 0)
        for (int i = threadIdx.x; i < EXCHANGED; i += THREADS) values[i] = halves[rounds & 1][i];
#endif
}
