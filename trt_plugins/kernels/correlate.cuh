// relu(cos(query, support)) of one tile: BM query positions times BN packed support columns.
// Three stages of shared memory, filled by asynchronous copies while the tensor cores multiply the
// one before. The sums are scaled by the query's norms and rectified in registers, staged in the
// same shared memory, and written with the zeros between them.
#ifndef HSNET_CORRELATE_CUH
#define HSNET_CORRELATE_CUH

#include "prepare.cuh"
#include "products.cuh"
#include "stage_loader.cuh"
#include "store.cuh"

namespace hsnet
{

// Which support positions a block with a tile of columns writes: these and the zeros between them.
// Blocks without one share the zeros before the first and behind the last column: the span.
struct Share
{
    int first;
    int last;
    int span_first;
    int span_last;
};

template <int BN>
__device__ __forceinline__ Share share_of(
    int tile, int tiles, int busy, int count, int32_t const* positions, int n)
{
    int const span_first = count == 0 ? 0 : positions[0];
    int const span_last = count == 0 ? 0 : positions[count - 1] + 1;
    if (tile >= busy)
    {
        return {0, 0, span_first, span_last};
    }
    bool const all_busy = tiles == busy;
    int const first = tile == 0 ? (all_busy ? 0 : span_first) : positions[tile * BN];
    int const last = tile == busy - 1 ? (all_busy ? n : span_last) : positions[(tile + 1) * BN];
    return {first, last, span_first, span_last};
}

// The first group of warps receives the sums of all, through `room` for those of the others.
template <int groups, int group_threads, int MT, int NT>
__device__ __forceinline__ void add_groups(float (&sums)[MT][NT][4], float* room, int thread)
{
    constexpr int kSums = MT * NT * 4;
#pragma unroll
    for (int i = 0; i < kSums; ++i)
    {
        if (thread >= group_threads)
        {
            int const group = thread / group_threads - 1;
            room[(group * kSums + i) * group_threads + thread % group_threads] = sums[i / 4 / NT][i / 4 % NT][i % 4];
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kSums; ++i)
    {
        for (int group = 0; group < groups - 1 && thread < group_threads; ++group)
        {
            sums[i / 4 / NT][i / 4 % NT][i % 4] += room[(group * kSums + i) * group_threads + thread];
        }
    }
    __syncthreads();
}

template <class T>
__device__ __forceinline__ void exchange(T& a, T& b)
{
    T const kept = a;
    a = b;
    b = kept;
}

template <class T, int BM, int BN, int warps_m, int warps_n, int groups>
__device__ __forceinline__ void correlate(Problem const& p)
{
    constexpr int kGroupThreads = warps_m * warps_n * 32;
    constexpr int kThreads = groups * kGroupThreads;
    constexpr int MT = BM / warps_m / 16;
    constexpr int NT = BN / warps_n / 8;
    constexpr int kStages = 3;
    constexpr int kDepth = groups * Elements<T>::kDepth;
    constexpr int kStage = kDepth * (BM + BN);
    // A window of 64 floats or 128 halves of every row is staged at a time.
    constexpr int kStagedWindow = BN * static_cast<int>(sizeof(T)) > 256 ? 256 / static_cast<int>(sizeof(T)) : BN;
    using Write = Writer<T, BM, kStagedWindow, kThreads>;
    constexpr int kNormBytes = BM * static_cast<int>(sizeof(float));
    static_assert(BM * Write::kPitch * sizeof(T) + kNormBytes <= kStages * kStage * sizeof(T),
        "the staged window and the norms reuse the stages");
    alignas(16) __shared__ T shared[kStages * kStage];

    int const nq = p.query_h * p.query_w;
    int const ns = p.support_h * p.support_w;
    int const layer = static_cast<int>(blockIdx.y);
    int const pair = static_cast<int>(blockIdx.z);
    int64_t const query_image = static_cast<int64_t>(pair / p.supports) * p.layers + layer;
    int64_t const support_image = static_cast<int64_t>(pair % p.supports) * p.layers + layer;
    int const count = p.counts[support_image];
    int32_t const* const positions = p.positions + support_image * p.support_pitch;

    // Blocks that run together share eight rows of tiles, so that both inputs stay in the L2 cache.
    constexpr int kTogetherRows = 8;
    int const row_tiles = static_cast<int>(ceil_div(nq, BM));
    int const tiles = static_cast<int>(ceil_div(ns, BN));
    int const block = static_cast<int>(blockIdx.x);
    int const first_row_tile = block / (kTogetherRows * tiles) * kTogetherRows;
    int const height = min(row_tiles - first_row_tile, kTogetherRows);
    int const row0 = (first_row_tile + block % (kTogetherRows * tiles) % height) * BM;
    int const tile = block % (kTogetherRows * tiles) / height;

    int const busy = static_cast<int>(ceil_div(count, BN));
    Share const share = share_of<BN>(tile, tiles, busy, count, positions, ns);
    if (tile >= busy)
    {
        Write const writer(p, pair, layer, row0);
        // Rows are shared among these blocks, not positions: zeros lie side by side in a row.
        int const start = (tile - busy) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
        int const step = (tiles - busy) * (kThreads / 32);
        writer.zero_rows(0, share.span_first, start, step);
        writer.zero_rows(share.span_last, ns, start, step);
        int const gap = share.span_last - share.span_first;
        for (int i = start; i < ns - gap; i += step)
        {
            writer.write_position(nullptr, i < share.span_first ? i : i + gap);
        }
        return;
    }

    bool const query_as_given = rows_are_aligned(nq, sizeof(T));
    bool const support_as_given = count == ns && rows_are_aligned(ns, sizeof(T));
    int const query_pitch = query_as_given ? nq : p.query_pitch;
    int const support_pitch = support_as_given ? ns : p.support_pitch;
    T const* const query = static_cast<T const*>(query_as_given ? p.query : p.packed_query)
        + query_image * p.channels * query_pitch;
    T const* const support = static_cast<T const*>(support_as_given ? p.support : p.packed_support)
        + support_image * p.channels * support_pitch;
    int const column0 = tile * BN;
    int const rows_end = static_cast<int>(round_up(nq, kSector<T>));
    int const columns_end = static_cast<int>(round_up(count, kSector<T>));
    StageLoader<T, BM, kDepth, kThreads> query_loader(query, query_pitch, row0, rows_end);
    StageLoader<T, BN, kDepth, kThreads> support_loader(support, support_pitch, column0, columns_end);

    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const group = thread / kGroupThreads;
    int const warp_row = thread % kGroupThreads / 32 / warps_n * (MT * 16);
    int const warp_column = thread / 32 % warps_n * (NT * 8);
    float sums[MT][NT][4] = {};
    int const steps = static_cast<int>(ceil_div(p.channels, kDepth));
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s)
    {
        if (s < steps)
        {
            query_loader.load(shared + s * kStage, s * kDepth, p.channels);
            support_loader.load(shared + s * kStage + kDepth * BM, s * kDepth, p.channels);
        }
        copy_commit();
    }
    int reading = 0;
    int filling = kStages - 1;
    for (int step = 0; step < steps; ++step)
    {
        copy_wait<kStages - 2>();
        __syncthreads();
        int const ahead = step + kStages - 1;
        if (ahead < steps)
        {
            query_loader.load(shared + filling * kStage, ahead * kDepth, p.channels);
            support_loader.load(shared + filling * kStage + kDepth * BM, ahead * kDepth, p.channels);
        }
        copy_commit();
        T const* const stage = shared + reading * kStage;
        multiply_stage<BM, BN, groups>(sums, stage, stage + kDepth * BM, warp_row, warp_column, lane, group);
        reading = reading == kStages - 1 ? 0 : reading + 1;
        filling = filling == kStages - 1 ? 0 : filling + 1;
    }
    copy_wait<0>();
    __syncthreads();
    if (groups > 1)
    {
        add_groups<groups, kGroupThreads>(sums, reinterpret_cast<float*>(shared), thread);
    }
    auto* const norms = reinterpret_cast<float*>(shared + BM * Write::kPitch); // inverse, of each row
    if (thread < BM)
    {
        int const parts = channel_parts(p);
        int64_t const images = static_cast<int64_t>(p.batch) * p.layers;
        float total = 0.0F;
        for (int part = 0; part < parts && row0 + thread < nq; ++part)
        {
            total += p.squares[(part * images + query_image) * p.query_pitch + row0 + thread];
        }
        norms[thread] = 1.0F / (sqrtf(total) + kEpsilon);
    }
    __syncthreads();

#pragma unroll
    for (int i = 0; i < 2 * MT; ++i)
    {
        float const scale = norms[warp_row + (i / 2) * 16 + (i % 2) * 8 + lane / 4];
#pragma unroll
        for (int j = 0; j < 2 * NT; ++j)
        {
            float& sum = sums[i / 2][j / 2][(i % 2) * 2 + j % 2];
            float const cosine = sum * scale;
            sum = !(cosine <= 0.0F) ? cosine : 0.0F; // NaN stays NaN, -0 becomes 0
        }
    }
    int place[2 * NT]; // where each of this thread's columns goes, from the block's first position on
#pragma unroll
    for (int j = 0; j < 2 * NT; ++j)
    {
        int const column = column0 + warp_column + (j / 2) * 8 + (lane % 4) * 2 + j % 2;
        place[j] = group == 0 && column < count ? positions[column] - share.first : -1;
    }
    // Pairs of floats would meet in a bank with those of the row beside: every other row swaps them.
    bool const swaps = sizeof(T) == 4 && lane / 4 % 2 == 1;
#pragma unroll
    for (int j = 0; j < 2 * NT; j += 2)
    {
        if (swaps)
        {
            exchange(place[j], place[j + 1]);
#pragma unroll
            for (int i = 0; i < 2 * MT; ++i)
            {
                exchange(sums[i / 2][j / 2][i % 2 * 2], sums[i / 2][j / 2][i % 2 * 2 + 1]);
            }
        }
    }
    Write const writer(p, pair, layer, row0);
    int const length = share.last - share.first;
    bool const gaps = length != min(BN, count - column0);
    for (int k = 0; k * kStagedWindow < length; ++k)
    {
        int const from = k * kStagedWindow;
        int mine = 0;
#pragma unroll
        for (int j = 0; j < 2 * NT; ++j)
        {
            mine |= place[j] >= from && place[j] < from + Write::kStaged ? 1 : 0;
        }
        // Also the barrier after which the window before may be overwritten.
        if (__syncthreads_or(mine) == 0)
        {
            writer.write_window(nullptr, share.first, share.last, k);
            continue;
        }
        if (gaps)
        {
            for (int i = thread; i < BM * Write::kPitch / kPiece<T>; i += kThreads)
            {
                reinterpret_cast<uint4*>(shared)[i] = make_uint4(0, 0, 0, 0);
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < 2 * MT; ++i)
        {
            T* const line = shared + (warp_row + (i / 2) * 16 + (i % 2) * 8 + lane / 4) * Write::kPitch - from;
#pragma unroll
            for (int j = 0; j < 2 * NT; ++j)
            {
                if (place[j] >= from && place[j] < from + Write::kStaged)
                {
                    line[place[j]] = from_float<T>(sums[i / 2][j / 2][(i % 2) * 2 + j % 2]);
                }
            }
        }
        __syncthreads();
        writer.write_window(shared, share.first, share.last, k);
    }
}

} // namespace hsnet

#endif
