// relu(cos(query, support)) of one tile: BM query positions times BN packed support columns.
// Three stages of shared memory, filled by asynchronous copies while the tensor cores multiply the
// one before; the query's squares are summed from what they multiply. The sums are scaled by the
// query's norms and rectified in registers, staged in the same shared memory, and written with the
// zeros between them.
#ifndef HSNET_CORRELATE_CUH
#define HSNET_CORRELATE_CUH

#include "products.cuh"
#include "stage_loader.cuh"
#include "store.cuh"

namespace hsnet
{

constexpr float kEpsilon = 1e-5F; // added to the norm, as HSNet does

// The columns of one support. Whatever the tensors hold, counts and positions are in range.
struct Packed
{
    int32_t const* positions;
    int count;
    int n; // positions of the support's grid

    __device__ __forceinline__ Packed(Problem const& p, int support)
        : positions(p.positions + static_cast<int64_t>(support) * p.column_row)
        , n(p.support_h * p.support_w)
    {
        count = min(max(p.counts[support], 0), min(p.column_row, n));
    }

    __device__ __forceinline__ int position(int column) const
    {
        return min(max(positions[column], 0), n - 1);
    }
};

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
__device__ __forceinline__ Share share_of(int tile, int tiles, int busy, Packed const& packed)
{
    int const span_first = packed.count == 0 ? 0 : packed.position(0);
    int const span_last = packed.count == 0 ? 0 : packed.position(packed.count - 1) + 1;
    if (tile >= busy)
    {
        return {0, 0, span_first, span_last};
    }
    bool const all_busy = tiles == busy;
    int const first = tile == 0 ? (all_busy ? 0 : span_first) : packed.position(tile * BN);
    int const last = tile == busy - 1 ? (all_busy ? packed.n : span_last) : packed.position((tile + 1) * BN);
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

// The inverse norms of a tile's rows, in `norms` [BM], from each thread's part of their squares;
// `norms` has room for one such row for each group of warps.
template <int BM, int MT, int warps, int groups, int KS>
__device__ __forceinline__ void invert_norms(
    float (&squares)[KS], float* norms, int warp_row, int warp, int lane, int group)
{
#pragma unroll
    for (int i = 0; i < KS; ++i)
    {
#pragma unroll
        for (int step = 1; step < 4; step *= 2)
        {
            unsigned const other = __shfl_sync(kAllLanes, __float_as_uint(squares[i]), lane ^ step);
            squares[i] += __uint_as_float(other);
        }
        if (lane % 4 == 0)
        {
            norms[group * BM + warp_row + row_of<MT, warps>(i, lane, warp)] = squares[i];
        }
    }
    __syncthreads();
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < BM)
    {
        float total = 0.0F;
#pragma unroll
        for (int g = 0; g < groups; ++g)
        {
            total += norms[g * BM + thread];
        }
        norms[thread] = 1.0F / (sqrtf(total) + kEpsilon);
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
    constexpr int kNormBytes = groups * BM * static_cast<int>(sizeof(float));
    static_assert(MT % warps_n == 0, "warps that read the same rows share their squares");
    static_assert(BM * Write::kPitch * sizeof(T) + kNormBytes <= kStages * kStage * sizeof(T),
        "the staged window and the norms reuse the stages");
    alignas(16) __shared__ T shared[kStages * kStage];

    int const nq = p.query_h * p.query_w;
    int const ns = p.support_h * p.support_w;
    int const layer = static_cast<int>(blockIdx.y);
    int const pair = static_cast<int>(blockIdx.z);
    int64_t const query_image = static_cast<int64_t>(pair / p.supports) * p.layers + layer;
    int64_t const support_image = static_cast<int64_t>(pair % p.supports) * p.layers + layer;
    Packed const packed(p, pair % p.supports);
    int const count = packed.count;

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
    Share const share = share_of<BN>(tile, tiles, busy, packed);
    if (tile >= busy)
    {
        Write const writer(p, pair, layer, row0);
        // Rows are shared among these blocks, not positions: zeros lie side by side in a row.
        int const start = (tile - busy) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
        int const step = (tiles - busy) * (kThreads / 32);
        writer.zero_rows(0, share.span_first, start, step);
        writer.zero_rows(share.span_last, ns, start, step);
        int const kept_first = writer.kept_before(share.span_first);
        int const gap = writer.kept_before(share.span_last) - kept_first;
        int const kept = writer.kept_before(ns) - gap;
        for (int i = start; i < kept; i += step)
        {
            writer.write_kept(nullptr, i < kept_first ? i : i + gap);
        }
        return;
    }

    T const* const query = static_cast<T const*>(p.query) + query_image * p.channels * p.query_row;
    T const* const columns = static_cast<T const*>(p.columns) + support_image * p.channels * p.column_row;
    int const column0 = tile * BN;
    int const rows_end = static_cast<int>(round_up(nq, kSector<T>));
    int const columns_end = static_cast<int>(round_up(count, kSector<T>));
    StageLoader<T, BM, kDepth, kThreads> query_loader(query, p.query_row, row0, rows_end);
    StageLoader<T, BN, kDepth, kThreads> column_loader(columns, p.column_row, column0, columns_end);

    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const group = thread / kGroupThreads;
    int const warp_row = thread % kGroupThreads / 32 / warps_n * (MT * 16);
    int const warp = thread / 32 % warps_n; // of those that read the same rows
    int const warp_column = warp * (NT * 8);
    float sums[MT][NT][4] = {};
    float squares[kSquares<MT, warps_n>] = {};
    int const steps = static_cast<int>(ceil_div(p.channels, kDepth));
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s)
    {
        if (s < steps)
        {
            query_loader.load(shared + s * kStage, s * kDepth, p.channels);
            column_loader.load(shared + s * kStage + kDepth * BM, s * kDepth, p.channels);
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
            column_loader.load(shared + filling * kStage + kDepth * BM, ahead * kDepth, p.channels);
        }
        copy_commit();
        T const* const stage = shared + reading * kStage;
        multiply_stage<BM, BN, groups, warps_n>(
            sums, squares, stage, stage + kDepth * BM, warp_row, warp_column, lane, group, warp);
        reading = reading == kStages - 1 ? 0 : reading + 1;
        filling = filling == kStages - 1 ? 0 : filling + 1;
    }
    copy_wait<0>();
    __syncthreads();
    if (groups > 1)
    {
        add_groups<groups, kGroupThreads>(sums, reinterpret_cast<float*>(shared), thread);
    }
    auto* const norms = reinterpret_cast<float*>(shared + BM * Write::kPitch);
    invert_norms<BM, MT, warps_n, groups>(squares, norms, warp_row, warp, lane, group);

#pragma unroll
    for (int i = 0; i < 2 * MT; ++i)
    {
        float const scale = norms[warp_row + row_of<MT, warps_n>(i, lane, warp)];
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
        place[j] = group == 0 && column < count ? packed.position(column) - share.first : -1;
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
            T* const line = shared + (warp_row + row_of<MT, warps_n>(i, lane, warp)) * Write::kPitch - from;
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
