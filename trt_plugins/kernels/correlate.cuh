// relu(cos(query, support)) of one tile: BM query positions times BN packed support columns.
// Three stages of shared memory, filled by asynchronous copies while the tensor cores multiply the
// one before. The sums are scaled by the query's norms and rectified in registers, staged in the
// same shared memory, and written with the zeros between them.
#ifndef HSNET_CORRELATE_CUH
#define HSNET_CORRELATE_CUH

#include "products.cuh"
#include "store.cuh"

namespace hsnet
{

// Copies stages of [depth][width] positions from rows of `pitch` elements; zero outside.
template <class T, int width, int threads>
struct StageLoader
{
    static constexpr int kPerPiece = Elements<T>::kPerPiece;
    static constexpr int kDepth = Elements<T>::kDepth;
    static constexpr int kPiecesPerRow = width / kPerPiece;
    static constexpr int kPieces = kDepth * kPiecesPerRow / threads;
    static constexpr int kRowsPerStep = threads / kPiecesPerRow;

    T const* rows;
    T const* next;
    int64_t pitch;
    int channel;
    int piece;
    bool inside;

    __device__ __forceinline__ StageLoader(T const* source, int row_pitch, int start, int end)
        : rows(source)
        , pitch(row_pitch)
    {
        int const thread = static_cast<int>(threadIdx.x);
        channel = thread / kPiecesPerRow;
        piece = thread % kPiecesPerRow;
        int const position = start + piece * kPerPiece;
        inside = position < end;
        next = source + channel * pitch + position;
    }

    __device__ __forceinline__ void load(T* stage, int first_channel, int channels)
    {
#pragma unroll
        for (int i = 0; i < kPieces; ++i)
        {
            int const line = channel + i * kRowsPerStep;
            bool const valid = inside && first_channel + line < channels;
            T const* const from = valid ? next + i * kRowsPerStep * pitch : rows;
            copy_async(stage + line * width + Elements<T>::swizzle(line, piece) * kPerPiece, from, valid);
        }
        next += kDepth * pitch;
    }
};

// Which support positions a block writes. Blocks with a tile of columns write these and the zeros
// between them; blocks without share the zeros before the first and after the last column.
struct Share
{
    int first;  // of the block's own range, or of its zeros counted without the columns' span
    int last;
    int span_first;
    int span_last;
};

template <int BN>
__device__ __forceinline__ Share share_of(
    int tile, int tiles, int busy, int count, int32_t const* positions, int n)
{
    int const idle = tiles - busy;
    int const span_first = count == 0 ? 0 : positions[0];
    int const span_last = count == 0 ? 0 : positions[count - 1] + 1;
    if (tile < busy)
    {
        bool const is_last = tile == busy - 1;
        int const first = tile == 0 ? (idle == 0 ? 0 : span_first) : positions[tile * BN];
        int const last = is_last ? (idle == 0 ? n : span_last) : positions[(tile + 1) * BN];
        return {first, last, span_first, span_last};
    }
    int const zeros = n - (span_last - span_first);
    int const each = static_cast<int>(round_up(ceil_div(zeros, idle), 64));
    int const first = min((tile - busy) * each, zeros);
    return {first, min(first + each, zeros), span_first, span_last};
}

template <class T, int BM, int BN, int warps_m, int warps_n>
__device__ __forceinline__ void correlate(Problem const& p)
{
    constexpr int kThreads = warps_m * warps_n * 32;
    constexpr int MT = BM / warps_m / 16;
    constexpr int NT = BN / warps_n / 8;
    constexpr int kStages = 3;
    constexpr int kDepth = Elements<T>::kDepth;
    constexpr int kStage = kDepth * (BM + BN);
    // A window of 64 floats or 128 halves of every row is staged at a time.
    constexpr int kWindow = BN * static_cast<int>(sizeof(T)) > 256 ? 256 / static_cast<int>(sizeof(T)) : BN;
    using Write = Writer<T, BM, kWindow, kThreads>;
    static_assert(BM * Write::kPitch <= kStages * kStage, "the staged window reuses the stages");
    alignas(16) __shared__ T shared[kStages * kStage];

    int const nq = p.query_h * p.query_w;
    int const ns = p.support_h * p.support_w;
    int const layer = static_cast<int>(blockIdx.y);
    int const pair = static_cast<int>(blockIdx.z);
    int64_t const query_image = static_cast<int64_t>(pair / p.supports) * p.layers + layer;
    int64_t const support_image = static_cast<int64_t>(pair % p.supports) * p.layers + layer;
    int const count = p.counts[support_image];
    int32_t const* const positions = p.positions + support_image * ns;

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
    Write const writer(p, pair, layer, row0);
    if (tile >= busy)
    {
        int const before = share.span_first; // zeros before the columns' span
        int const gap = share.span_last - share.span_first;
        for (int first = share.first; first < min(share.last, before); first += kWindow)
        {
            writer.write(nullptr, first, min(first + kWindow, min(share.last, before)));
        }
        for (int first = max(share.first, before); first < share.last; first += kWindow)
        {
            writer.write(nullptr, first + gap, min(first + kWindow, share.last) + gap);
        }
        return;
    }

    bool const query_as_given = nq == p.query_pitch;
    bool const support_as_given = count == ns && ns == p.support_pitch;
    T const* const query = static_cast<T const*>(query_as_given ? p.query : p.packed_query)
        + query_image * p.channels * p.query_pitch;
    T const* const support = static_cast<T const*>(support_as_given ? p.support : p.packed_support)
        + support_image * p.channels * p.support_pitch;
    int const column0 = tile * BN;
    int const columns_end = static_cast<int>(round_up(count, Elements<T>::kPerPiece));
    StageLoader<T, BM, kThreads> query_loader(query, p.query_pitch, row0, p.query_pitch);
    StageLoader<T, BN, kThreads> support_loader(support, p.support_pitch, column0, columns_end);

    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const warp_row = thread / 32 / warps_n * (MT * 16);
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
        multiply_stage<BM, BN>(sums, stage, stage + kDepth * BM, warp_row, warp_column, lane);
        reading = reading == kStages - 1 ? 0 : reading + 1;
        filling = filling == kStages - 1 ? 0 : filling + 1;
    }
    copy_wait<0>();

#pragma unroll
    for (int i = 0; i < 2 * MT; ++i)
    {
        int const row = row0 + warp_row + (i / 2) * 16 + (i % 2) * 8 + lane / 4;
        float const scale = row < nq ? p.inverse_norm[query_image * nq + row] : 0.0F;
#pragma unroll
        for (int j = 0; j < 2 * NT; ++j)
        {
            float& sum = sums[i / 2][j / 2][(i % 2) * 2 + j % 2];
            float const cosine = sum * scale;
            sum = !(cosine <= 0.0F) ? cosine : 0.0F; // NaN stays NaN, -0 becomes 0
        }
    }
    int place[2 * NT]; // the support position of each of this thread's columns
#pragma unroll
    for (int j = 0; j < 2 * NT; ++j)
    {
        int const column = column0 + warp_column + (j / 2) * 8 + (lane % 4) * 2 + j % 2;
        place[j] = column < count ? positions[column] : -1;
    }
    bool const gaps = share.last - share.first != min(BN, count - column0);
    for (int first = share.first; first < share.last; first += kWindow)
    {
        int const last = min(first + kWindow, share.last);
        int mine = 0;
#pragma unroll
        for (int j = 0; j < 2 * NT; ++j)
        {
            mine |= place[j] >= first && place[j] < last ? 1 : 0;
        }
        // Also the barrier after which the stages, or the window before, may be overwritten.
        if (__syncthreads_or(mine) == 0)
        {
            writer.write(nullptr, first, last);
            continue;
        }
        if (gaps)
        {
            for (int i = thread; i < BM * Write::kPitch / kTogether; i += kThreads)
            {
                reinterpret_cast<Pack<T>*>(shared)[i] = Pack<T>{};
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < 2 * MT; ++i)
        {
            int const row = warp_row + (i / 2) * 16 + (i % 2) * 8 + lane / 4;
            T* const line = shared + row * Write::kPitch + writer.shift(row, first) - first;
#pragma unroll
            for (int j = 0; j < 2 * NT; ++j)
            {
                if (place[j] >= first && place[j] < last)
                {
                    line[place[j]] = from_float<T>(sums[i / 2][j / 2][(i % 2) * 2 + j % 2]);
                }
            }
        }
        __syncthreads();
        writer.write(shared, first, last);
    }
}

} // namespace hsnet

#endif
