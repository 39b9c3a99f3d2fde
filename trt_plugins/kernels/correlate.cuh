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
// The zeros before the first and behind the last column belong to blocks without a tile, if any.
struct Share
{
    int first;
    int last;
};

template <int BN>
__device__ __forceinline__ Share share_of(int tile, bool alone, Packed const& packed)
{
    bool const is_last = (tile + 1) * BN >= packed.count;
    int const first = tile == 0 && alone ? 0 : packed.position(tile * BN);
    int const last = !is_last ? packed.position((tile + 1) * BN)
        : alone               ? packed.n
                              : packed.position(packed.count - 1) + 1;
    return {first, last};
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

// Zeros in `count` elements that follow each other, by one warp: whole pieces of 16 bytes but for the
// ends.
template <class T>
__device__ __forceinline__ void write_zeros(T* line, int count)
{
    int const lane = static_cast<int>(threadIdx.x) % 32;
    int const start = static_cast<int>(reinterpret_cast<uintptr_t>(line) / sizeof(T));
    int const head = min(-start & (kSector<T> - 1), count);
    int const tail = head + (count - head) / kPiece<T> * kPiece<T>;
    if (lane < head)
    {
        line[lane] = from_float<T>(0.0F);
    }
    for (int at = head + lane * kPiece<T>; at < tail; at += 32 * kPiece<T>)
    {
        *reinterpret_cast<uint4*>(line + at) = make_uint4(0, 0, 0, 0);
    }
    if (tail + lane < count)
    {
        line[tail + lane] = from_float<T>(0.0F);
    }
}

// What lies before the first column and behind the last one, in all layers, by the block `index` of
// `blocks` that share it. A row's end and the next row's beginning follow each other, and so do the
// pruned positions of all layers.
template <class T, int threads>
__device__ __forceinline__ void write_zeros(Problem const& p, Packed const& packed, int pair, int index, int blocks)
{
    constexpr int kTogether = 4096; // elements that a warp writes at a time
    int const warp = index * (threads / 32) + static_cast<int>(threadIdx.x) / 32;
    int const warps = blocks * (threads / 32);
    int const first = packed.count == 0 ? 0 : packed.position(0);
    int const last = packed.count == 0 ? 0 : packed.position(packed.count - 1) + 1;
    int64_t const ns = packed.n;
    int const nq = p.query_h * p.query_w;
    int const rows = nq * p.layers;
    T* const full = static_cast<T*>(p.full) + static_cast<int64_t>(pair) * rows * ns;
    for (int row = warp; row <= rows; row += warps)
    {
        int64_t const from = row == 0 ? 0 : (row - 1) * ns + last;
        int64_t const to = row == rows ? rows * ns : row * ns + first;
        write_zeros(full + from, static_cast<int>(to - from));
    }
    Kept const kept(p);
    int64_t const begins = static_cast<int64_t>(kept.before(first)) * rows;
    int64_t const ends = static_cast<int64_t>(kept.before(last)) * rows;
    int64_t const all = static_cast<int64_t>(kept.count) * rows;
    T* const pruned = static_cast<T*>(p.pruned) + pair * all;
    for (int64_t at = static_cast<int64_t>(warp) * kTogether; at < all - (ends - begins);
         at += static_cast<int64_t>(warps) * kTogether)
    {
        // A stretch that would cross the columns ends before them, and another begins behind.
        int64_t const to = min(at + kTogether, all - (ends - begins));
        int64_t const before = max(min(to, begins) - at, int64_t{0});
        write_zeros(pruned + at, static_cast<int>(before));
        write_zeros(pruned + at + before + (ends - begins), static_cast<int>(to - at - before));
    }
}

// How one form cuts a level.
template <class Type, int rows, int columns, int warps_m, int warps_n, int groups>
struct Form
{
    using T = Type;
    static constexpr int BM = rows;
    static constexpr int BN = columns;
    static constexpr int kAcross = warps_n; // warps that read the same rows
    static constexpr int kGroups = groups;
    static constexpr int kGroupThreads = warps_m * warps_n * 32;
    static constexpr int kThreads = groups * kGroupThreads;
    static constexpr int MT = BM / warps_m / 16;
    static constexpr int NT = BN / warps_n / 8;
    static constexpr int kStages = 3;
    static constexpr int kDepth = groups * Elements<T>::kDepth;
    static constexpr int kStage = kDepth * (BM + BN);
    // A window of 64 floats or 128 halves of every row is staged at a time.
    static constexpr int kStagedWindow
        = BN * static_cast<int>(sizeof(T)) > 256 ? 256 / static_cast<int>(sizeof(T)) : BN;
    using Write = Writer<T, BM, kStagedWindow, kThreads>;
    static constexpr int kNormBytes = groups * BM * static_cast<int>(sizeof(float));
    static_assert(MT % warps_n == 0, "warps that read the same rows share their squares");
    // The staged window and the norms reuse the stages.
    static constexpr int kStaged = BM * Write::kPitch + kNormBytes / static_cast<int>(sizeof(T));
    static constexpr int kShared = kStages * kStage > kStaged ? kStages * kStage : kStaged;

    // Tiles of all layers that have columns.
    __device__ static __forceinline__ int busy(Problem const& p, int count)
    {
        int const row_tiles = (p.query_h * p.query_w + BM - 1) / BM;
        return p.layers * row_tiles * ((count + BN - 1) / BN);
    }
};

// The block of so many that has the tile `index` of those with columns; alone where all blocks do.
template <class F>
__device__ __forceinline__ void multiply_tile(
    Problem const& p, Packed const& packed, int pair, int index, bool alone, typename F::T* shared)
{
    using T = typename F::T;
    using Write = typename F::Write;
    constexpr int BM = F::BM;
    constexpr int BN = F::BN;
    constexpr int MT = F::MT;
    constexpr int NT = F::NT;
    constexpr int kThreads = F::kThreads;
    constexpr int kGroupThreads = F::kGroupThreads;
    constexpr int kDepth = F::kDepth;
    constexpr int kStage = F::kStage;
    constexpr int kStages = F::kStages;
    constexpr int kStagedWindow = F::kStagedWindow;
    constexpr int groups = F::kGroups;
    constexpr int warps_n = F::kAcross;
    int const nq = p.query_h * p.query_w;
    int const count = packed.count;

    // Blocks that run together share eight rows of tiles, so that both inputs stay in the L2 cache.
    constexpr int kTogetherRows = 8;
    int const row_tiles = (nq + BM - 1) / BM;
    int const tiles = (count + BN - 1) / BN;
    int const layer = index / (row_tiles * tiles);
    int const block = index - layer * (row_tiles * tiles);
    int const first_row_tile = block / (kTogetherRows * tiles) * kTogetherRows;
    int const height = min(row_tiles - first_row_tile, kTogetherRows);
    int const row0 = (first_row_tile + block % (kTogetherRows * tiles) % height) * BM;
    int const tile = block % (kTogetherRows * tiles) / height;
    int64_t const query_image = static_cast<int64_t>(pair / p.supports) * p.layers + layer;
    int64_t const support_image = static_cast<int64_t>(pair % p.supports) * p.layers + layer;
    Share const share = share_of<BN>(tile, alone, packed);

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

// One block of a launch. The first ones have columns, so that none of their long ways begins late;
// the others write the zeros. Where fewer have columns than there are multiprocessors and the grid
// has room, they have `Finer` tiles: with the same sums, for the channels are added in one order.
template <class F, class Finer>
__device__ __forceinline__ void correlate(Problem const& p)
{
    static_assert(F::kThreads == Finer::kThreads && Finer::kShared <= F::kShared, "they share a block");
    alignas(16) __shared__ typename F::T shared[F::kShared];
    int const pair = static_cast<int>(blockIdx.z);
    Packed const packed(p, pair % p.supports);
    int const of_layer = static_cast<int>(ceil_div(p.query_h * p.query_w, F::BM) * ceil_div(packed.n, F::BN));
    int const blocks = of_layer * p.layers;
    int const index = static_cast<int>(blockIdx.x) + of_layer * static_cast<int>(blockIdx.y);
    int busy = F::busy(p, packed.count);
    int const finer = Finer::busy(p, packed.count);
    bool const is_finer = F::BM != Finer::BM && finer < blocks
        && static_cast<int64_t>(busy) * p.batch * p.supports < p.multiprocessors;
    busy = is_finer ? finer : busy;
    if (index >= busy)
    {
        write_zeros<typename F::T, F::kThreads>(p, packed, pair, index - busy, blocks - busy);
    }
    else if (is_finer)
    {
        multiply_tile<Finer>(p, packed, pair, index, false, shared);
    }
    else
    {
        multiply_tile<F>(p, packed, pair, index, busy == blocks, shared);
    }
}

} // namespace hsnet

#endif
