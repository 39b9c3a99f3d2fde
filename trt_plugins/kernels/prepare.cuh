// What comes before the product, each input read once:
//   prepare  the query's sums of squares (and an aligned copy where its rows are not aligned), and
//            which columns of the support are not zero.
// A block goes through one window of columns and one part of the channels, a warp through every
// eighth of those; the parts are put together by whoever reads them, so that no block waits.
#ifndef HSNET_PREPARE_CUH
#define HSNET_PREPARE_CUH

#include "pieces.cuh"

namespace hsnet
{

constexpr float kEpsilon = 1e-5F; // added to the norm, as HSNet does
constexpr int kPackWarps = kPackThreads / 32;
constexpr int kBatch = 4; // rows that a warp asks for before it waits for the first

// Loads row first + i * kPackWarps of a [channels][n] image for each i; zeros for rows from `last` on.
template <class T>
__device__ __forceinline__ void load_rows(uint4 (&pieces)[kBatch], T const* image, T const* begin, T const* end,
    int n, int column0, int first, int last, int lane)
{
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
    {
        int const c = first + i * kPackWarps;
        T const* const row = image + static_cast<int64_t>(c) * n;
        pieces[i] = c < last ? load_window(row + column0, row + n, begin, end, lane) : make_uint4(0, 0, 0, 0);
    }
}

template <class T>
__device__ __forceinline__ void prepare_query(
    Problem const& p, int64_t image, int part, int column0, int lane, int warp)
{
    // [warp][element of a piece][lane], each with room that keeps columns in different banks.
    constexpr int kLine = 32 + 32 / kPiece<T>;
    __shared__ float sums[kPackWarps][kPiece<T>][kLine];
    int const n = p.query_h * p.query_w;
    bool const copies = !rows_are_aligned(n, sizeof(T));
    auto const* const begin = static_cast<T const*>(p.query);
    int64_t const images = static_cast<int64_t>(p.batch) * p.layers;
    T const* const end = begin + images * p.channels * n;
    T const* const source = begin + image * p.channels * n;
    int const column = column0 + lane * kPiece<T>;
    int const here = lane < kWindowPieces ? n - column : 0; // elements of this lane's piece, and more
    T* const target = static_cast<T*>(p.packed_query) + image * p.channels * p.query_pitch + column;
    int const last = min((part + 1) * kPartChannels, p.channels);
    float mine[kPiece<T>] = {};
    for (int first = part * kPartChannels + warp; first < last; first += kBatch * kPackWarps)
    {
        uint4 pieces[kBatch];
        load_rows(pieces, source, begin, end, n, column0, first, last, lane);
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
        {
            int const c = first + i * kPackWarps;
            int const skip = offset_in_sector(source + static_cast<int64_t>(c) * n + column0);
            uint4 const piece = first_elements<T>(shift_window(pieces[i], skip, lane), here);
#pragma unroll
            for (int e = 0; e < kPiece<T>; ++e)
            {
                float const x = element_of<T>(piece, e);
                mine[e] += x * x;
            }
            // Whole sectors, with zeros behind the row.
            if (copies && c < last && lane < kWindowPieces && column < round_up(n, kSector<T>))
            {
                *reinterpret_cast<uint4*>(target + static_cast<int64_t>(c) * p.query_pitch) = piece;
            }
        }
    }
#pragma unroll
    for (int e = 0; e < kPiece<T>; ++e)
    {
        sums[warp][e][lane] = mine[e];
    }
    __syncthreads();
    float* const squares = p.squares + (part * images + image) * p.query_pitch + column0;
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < kWindow<T> && column0 + thread < n)
    {
        float total = 0.0F;
        for (int w = 0; w < kPackWarps; ++w)
        {
            total += sums[w][thread % kPiece<T>][thread / kPiece<T>];
        }
        squares[thread] = total;
    }
}

template <class T>
__device__ __forceinline__ void prepare_support(
    Problem const& p, int64_t image, int part, int column0, int lane, int warp)
{
    __shared__ unsigned found[kPackWarps][32];
    int const n = p.support_h * p.support_w;
    auto const* const begin = static_cast<T const*>(p.support);
    T const* const end = begin + static_cast<int64_t>(p.supports) * p.layers * p.channels * n;
    T const* const source = begin + image * p.channels * n;
    int const here = lane < kWindowPieces ? min(max(n - column0 - lane * kPiece<T>, 0), kPiece<T>) : 0;
    unsigned const wanted = (1U << here) - 1U;
    int const last = min((part + 1) * kPartChannels, p.channels);
    unsigned mine = 0;
    // A column is known at its first value that is not zero: only zero columns are read to the end.
    for (int first = part * kPartChannels + warp; first < last; first += kBatch * kPackWarps)
    {
        if (__ballot_sync(kAllLanes, mine != wanted) == 0)
        {
            break;
        }
        uint4 pieces[kBatch];
        load_rows(pieces, source, begin, end, n, column0, first, last, lane);
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
        {
            int const c = first + i * kPackWarps;
            int const skip = offset_in_sector(source + static_cast<int64_t>(c) * n + column0);
            uint4 const piece = shift_window(pieces[i], skip, lane);
#pragma unroll
            for (int e = 0; e < kPiece<T>; ++e)
            {
                // NaN counts as not zero, -0 as zero.
                mine |= element_of<T>(piece, e) != 0.0F ? 1U << e : 0U;
            }
        }
        mine &= wanted;
    }
    found[warp][lane] = mine;
    __syncthreads();
    if (warp == 0 && here > 0)
    {
        unsigned all = 0;
        for (int w = 0; w < kPackWarps; ++w)
        {
            all |= found[w][lane];
        }
        int64_t const line = image * channel_parts(p) + part;
        p.flags[(line * p.support_pitch + column0) / kPiece<T> + lane] = static_cast<uint8_t>(all);
    }
}

template <class T>
__device__ __forceinline__ void prepare(Problem const& p)
{
    int const thread = static_cast<int>(threadIdx.x);
    int const parts = channel_parts(p);
    int const query_windows = static_cast<int>(window_count(p.query_h * p.query_w, sizeof(T)));
    int const support_windows = static_cast<int>(window_count(p.support_h * p.support_w, sizeof(T)));
    int64_t const query_blocks = static_cast<int64_t>(p.batch) * p.layers * parts * query_windows;
    bool const of_query = blockIdx.x < query_blocks;
    int64_t const block = of_query ? blockIdx.x : blockIdx.x - query_blocks;
    int const windows = of_query ? query_windows : support_windows;
    int const column0 = static_cast<int>(block % windows) * kWindow<T>;
    int const part = static_cast<int>(block / windows % parts);
    int64_t const image = block / windows / parts; // and layer
    if (of_query)
    {
        prepare_query<T>(p, image, part, column0, thread % 32, thread / 32);
    }
    else
    {
        prepare_support<T>(p, image, part, column0, thread % 32, thread / 32);
    }
}

} // namespace hsnet

#endif
