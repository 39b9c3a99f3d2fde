// gather: the support's columns that are not zero, side by side, in ascending order.
// Packing columns skips every zero column, not only whole tiles of them: a blob of 20 % of the
// area touches half of all 128-column tiles, but packs into a fifth.
#ifndef HSNET_GATHER_CUH
#define HSNET_GATHER_CUH

#include "prepare.cuh"

namespace hsnet
{

// Finds the packed columns [first, first + kWindow) of an image: their positions go to `kept`.
// Returns how many columns of the whole image are not zero.
template <class T>
__device__ __forceinline__ int find_columns(Problem const& p, int64_t image, int first, int (&kept)[kWindow<T>])
{
    __shared__ int warp_counts[kPackWarps];
    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const warp = thread / 32;
    int const parts = channel_parts(p);
    int const pieces = static_cast<int>(ceil_div(p.support_h * p.support_w, kPiece<T>));
    int const line = p.support_pitch / kPiece<T>;
    int count = 0;
    for (int start = 0; start < pieces; start += kPackThreads)
    {
        unsigned mask = 0;
        for (int part = 0; part < parts && start + thread < pieces; ++part)
        {
            mask |= p.flags[(image * parts + part) * line + start + thread];
        }
        int const found = __popc(mask);
        int upto = found; // of this warp, with this lane's
#pragma unroll
        for (int step = 1; step < 32; step *= 2)
        {
            int const other = __shfl_sync(kAllLanes, upto, (lane - step) & 31);
            upto += lane >= step ? other : 0;
        }
        if (lane == 31)
        {
            warp_counts[warp] = upto;
        }
        __syncthreads();
        int rank = count + upto - found;
        for (int w = 0; w < kPackWarps; ++w)
        {
            rank += w < warp ? warp_counts[w] : 0;
            count += warp_counts[w];
        }
#pragma unroll
        for (int e = 0; e < kPiece<T>; ++e)
        {
            if ((mask >> e & 1U) != 0)
            {
                if (rank >= first && rank < first + kWindow<T>)
                {
                    kept[rank - first] = (start + thread) * kPiece<T> + e;
                }
                ++rank;
            }
        }
        __syncthreads();
    }
    return count;
}

template <class T>
__device__ __forceinline__ void gather(Problem const& p)
{
    constexpr int kTogether = 2; // rows
    __shared__ int kept[kWindow<T>];
    alignas(16) __shared__ T loaded[kPackWarps][kTogether][32 * kPiece<T>];
    alignas(16) __shared__ T packed[kPackWarps][kTogether][32 * kPiece<T>];
    int const n = p.support_h * p.support_w;
    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const warp = thread / 32;
    int64_t const image = static_cast<int64_t>(blockIdx.z) * p.layers + blockIdx.y;
    int const windows = static_cast<int>(window_count(n, sizeof(T)));
    int const first = static_cast<int>(blockIdx.x) % windows * kWindow<T>;
    int const part = static_cast<int>(blockIdx.x) / windows;

    int const count = find_columns<T>(p, image, first, kept);
    int const here = min(count - first, kWindow<T>);
    if (part == 0)
    {
        if (first == 0 && thread == 0)
        {
            p.counts[image] = count;
        }
        for (int i = thread; i < here; i += kPackThreads)
        {
            p.positions[image * p.support_pitch + first + i] = kept[i];
        }
    }
    // Rows that are dense and aligned are read where they are (see support_as_given in correlate.cuh).
    if (here <= 0 || (count == n && rows_are_aligned(n, sizeof(T))))
    {
        return;
    }
    auto const* const begin = static_cast<T const*>(p.support);
    T const* const end = begin + static_cast<int64_t>(p.supports) * p.layers * p.channels * n;
    T const* const source = begin + image * p.channels * n;
    T* const target = static_cast<T*>(p.packed_support) + image * p.channels * p.support_pitch + first;
    int const stop = kept[here - 1] + 1;
    // The last sector of a row that is read is whole, and what fills it up is zero.
    int const filled = static_cast<int>(round_up(here, kSector<T>));
    int const last = min((part + 1) * kPartChannels, p.channels);
    for (int row0 = part * kPartChannels + warp; row0 < last; row0 += kTogether * kPackWarps)
    {
        T const* rows[kTogether];
#pragma unroll
        for (int r = 0; r < kTogether; ++r)
        {
            rows[r] = source + static_cast<int64_t>(min(row0 + r * kPackWarps, last - 1)) * n;
        }
        int done = 0;
        while (done < here)
        {
            int const from = kept[done]; // columns [from, from + kWindow) are loaded, and up to 2 pieces more
            uint4 pieces[kTogether];
#pragma unroll
            for (int r = 0; r < kTogether; ++r)
            {
                pieces[r] = load_window(rows[r] + from, rows[r] + stop, begin, end, lane);
            }
#pragma unroll
            for (int r = 0; r < kTogether; ++r)
            {
                *reinterpret_cast<uint4*>(&loaded[warp][r][lane * kPiece<T>]) = pieces[r];
            }
            __syncwarp();
            int moved = 32;
            while (moved == 32)
            {
                int const i = done + lane;
                int const column = i < here ? kept[i] : from + kWindow<T>;
                bool const inside = column < from + kWindow<T>;
                if (inside)
                {
#pragma unroll
                    for (int r = 0; r < kTogether; ++r)
                    {
                        int const skip = offset_in_sector(rows[r] + from) / static_cast<int>(sizeof(T));
                        packed[warp][r][i] = loaded[warp][r][skip + column - from];
                    }
                }
                moved = __popc(__ballot_sync(kAllLanes, inside));
                done += moved;
            }
            __syncwarp();
        }
#pragma unroll
        for (int r = 0; r < kTogether; ++r)
        {
            if (here + lane < filled)
            {
                packed[warp][r][here + lane] = from_float<T>(0.0F);
            }
        }
        __syncwarp();
#pragma unroll
        for (int r = 0; r < kTogether; ++r)
        {
            int const row = row0 + r * kPackWarps;
            if (row < last && lane * kPiece<T> < filled)
            {
                *reinterpret_cast<uint4*>(target + static_cast<int64_t>(row) * p.support_pitch + lane * kPiece<T>)
                    = *reinterpret_cast<uint4 const*>(&packed[warp][r][lane * kPiece<T>]);
            }
        }
        __syncwarp();
    }
}

} // namespace hsnet

#endif
