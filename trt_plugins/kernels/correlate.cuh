// relu(cos(query, support)) of one tile: BM query positions times BN packed support columns.
// Asynchronous copies fill three stages of shared memory while the tensor cores multiply an earlier
// one. The query's squares are summed from the same operands. The products are scaled by the inverse
// norms and rectified in registers, staged in the same shared memory, and written together with the
// zeros between them.
#ifndef HSNET_CORRELATE_CUH
#define HSNET_CORRELATE_CUH

#include "packed.cuh"
#include "stage_loader.cuh"
#include "store.cuh"
#include "sums.cuh"
#include "zeros.cuh"

namespace hsnet
{

// The support positions that a block with a tile writes: its columns and the zeros between them.
// Zeros before the first and behind the last column are written by blocks without a tile, if any.
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

// One form of the kernel: how it divides a level into tiles.
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
    // At most 64 floats or 128 halves of every row are staged at a time.
    static constexpr int kStagedWindow
        = BN * static_cast<int>(sizeof(T)) > 256 ? 256 / static_cast<int>(sizeof(T)) : BN;
    using Write = Writer<T, BM, kStagedWindow, kThreads>;
    static constexpr int kNormBytes = groups * BM * static_cast<int>(sizeof(float));
    static_assert(MT % warps_n == 0, "warps that read the same rows share their squares");
    // The staged window and the norms reuse the stages.
    static constexpr int kStaged = BM * Write::kPitch + kNormBytes / static_cast<int>(sizeof(T));
    static constexpr int kShared = kStages * kStage > kStaged ? kStages * kStage : kStaged;

    // The number of tiles with columns, of all layers.
    __device__ static __forceinline__ int busy(Problem const& p, int count)
    {
        int const row_tiles = (p.query_h * p.query_w + BM - 1) / BM;
        return p.layers * row_tiles * ((count + BN - 1) / BN);
    }
};

// The tile of a block.
struct Place
{
    int layer;
    int row0;
    int tile; // of columns
};

// The tile of block `index` among those with columns. Blocks that run at the same time share eight
// rows of tiles, so that both inputs stay in the L2 cache.
template <class F>
__device__ __forceinline__ Place place_of(Problem const& p, int count, int index)
{
    constexpr int kTogetherRows = 8;
    int const row_tiles = (p.query_h * p.query_w + F::BM - 1) / F::BM;
    int const tiles = (count + F::BN - 1) / F::BN;
    int const layer = index / (row_tiles * tiles);
    int const block = index - layer * (row_tiles * tiles);
    int const first_row_tile = block / (kTogetherRows * tiles) * kTogetherRows;
    int const height = min(row_tiles - first_row_tile, kTogetherRows);
    int const row_tile = first_row_tile + block % (kTogetherRows * tiles) % height;
    return {layer, row_tile * F::BM, block % (kTogetherRows * tiles) / height};
}

// Compute and write one tile; `alone` if there are no blocks without a tile, which would write the
// zeros at the ends.
template <class F>
__device__ __forceinline__ void multiply_tile(
    Problem const& p, Packed const& packed, int pair, Place const& at, bool alone, typename F::T* shared)
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

    int const layer = at.layer;
    int const row0 = at.row0;
    int const tile = at.tile;
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
    int const warp = thread / 32 % warps_n; // index among the warps that read the same rows
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
    int place[2 * NT]; // position of each of this thread's columns, relative to the block's first
#pragma unroll
    for (int j = 0; j < 2 * NT; ++j)
    {
        int const column = column0 + warp_column + (j / 2) * 8 + (lane % 4) * 2 + j % 2;
        place[j] = group == 0 && column < count ? packed.position(column) - share.first : -1;
    }
    // Every other row swaps its pairs of floats, which would conflict with the next row's banks.
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
        // Also the barrier after which the previous window may be overwritten.
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

// One block of a launch. The first blocks have columns, so that the longest work starts first; the
// others write zeros. `Finer` tiles are used if there are fewer tiles with columns than
// multiprocessors and the grid has room, and for the last tiles if those would form a wave of few
// blocks (`cut_tiles`). Results are the same, since channels are added in the same order.
template <class F, class Finer>
__device__ __forceinline__ void correlate(Problem const& p)
{
    static_assert(F::kThreads == Finer::kThreads && Finer::kShared <= F::kShared, "they share a block");
    constexpr bool kHasFiner = F::BM != Finer::BM;
    static_assert(!kHasFiner || (F::BM == 2 * Finer::BM && F::BN == 2 * Finer::BN), "a tile is cut in four");
    alignas(16) __shared__ typename F::T shared[F::kShared];
    int const pair = static_cast<int>(blockIdx.z);
    Packed const packed(p, pair % p.supports);
    int const blocks = static_cast<int>(gridDim.x) * p.layers;
    int const index = static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x * blockIdx.y);
    int const busy = F::busy(p, packed.count);
    int const finer = Finer::busy(p, packed.count);
    bool const is_finer = kHasFiner && finer < blocks
        && static_cast<int64_t>(busy) * p.batch * p.supports < p.multiprocessors;
    int cut = kHasFiner && !is_finer ? static_cast<int>(cut_tiles(p, busy)) : 0;
    cut = busy + (kCut - 1) * cut <= blocks ? cut : 0;
    int const used = is_finer ? finer : busy + (kCut - 1) * cut;
    if (index >= used)
    {
        write_zeros<typename F::T, F::kThreads>(p, packed, pair, index - used, blocks - used);
    }
    else if (kHasFiner && (is_finer || index >= busy - cut))
    {
        int const part = index - (busy - cut); // index among the parts of the tiles that are cut
        Place place = place_of<F>(p, packed.count, busy - cut + part / kCut);
        place.row0 += part % kCut / 2 * Finer::BM;
        place.tile = place.tile * 2 + part % 2;
        place = is_finer ? place_of<Finer>(p, packed.count, index) : place;
        if (place.row0 < p.query_h * p.query_w && place.tile * Finer::BN < packed.count)
        {
            multiply_tile<Finer>(p, packed, pair, place, used == blocks, shared);
        }
    }
    else
    {
        multiply_tile<F>(p, packed, pair, place_of<F>(p, packed.count, index), used == blocks, shared);
    }
}

} // namespace hsnet

#endif
