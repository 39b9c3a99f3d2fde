// Writing a window of the correlation, every element once, in both layouts.
// A window is `rows` query positions from row0 times the support positions [first, last).
#ifndef HSNET_STORE_CUH
#define HSNET_STORE_CUH

#include "prepare.cuh"

namespace hsnet
{

constexpr int kTogether = 4; // elements of one store: 8 bytes of half, 16 of float

template <class T>
struct alignas(kTogether * sizeof(T)) Pack
{
    T value[kTogether];
};

// Where the outputs of one (query image, support image, layer, tile of rows) lie.
template <class T, int BM, int window, int threads>
struct Writer
{
    static constexpr int kPitch = window + 16 / static_cast<int>(sizeof(T));

    T* full;
    T* pruned;
    int64_t full_start;    // element (row0, position 0)
    int64_t full_pitch;    // from one row to the next
    int64_t pruned_start;  // element (pruned position 0, row0)
    int64_t pruned_pitch;  // from one pruned position to the next
    int rows;
    int support_w;
    int stride;

    __device__ __forceinline__ Writer(Problem const& p, int pair, int layer, int row0)
        : full(static_cast<T*>(p.full))
        , pruned(static_cast<T*>(p.pruned))
        , rows(min(BM, p.query_h * p.query_w - row0))
        , support_w(p.support_w)
        , stride(p.stride)
    {
        int64_t const nq = static_cast<int64_t>(p.query_h) * p.query_w;
        int64_t const ns = static_cast<int64_t>(p.support_h) * p.support_w;
        int64_t const kept = ceil_div(p.support_h, stride) * ceil_div(p.support_w, stride);
        full_pitch = p.layers * ns;
        full_start = (pair * nq + row0) * full_pitch + layer * ns;
        pruned_pitch = p.layers * nq;
        pruned_start = pair * kept * pruned_pitch + layer * nq + row0;
    }

    // How far a staged row is moved so that its 4-element pieces are those of global memory.
    __device__ __forceinline__ int shift(int row, int first) const
    {
        return static_cast<int>((full_start + row * full_pitch + first) % kTogether);
    }

    __device__ __forceinline__ void put(T* target, int64_t start, int low, int count, Pack<T> const& pack) const
    {
        if (low >= 0 && low + kTogether <= count)
        {
            *reinterpret_cast<Pack<T>*>(target + start + low) = pack;
            return;
        }
#pragma unroll
        for (int e = 0; e < kTogether; ++e)
        {
            if (low + e >= 0 && low + e < count)
            {
                target[start + low + e] = pack.value[e];
            }
        }
    }

    // staged is [BM][kPitch], each row moved by shift; null where the whole window is zero.
    __device__ __forceinline__ void write(T const* staged, int first, int last) const
    {
        constexpr int kPieces = window / kTogether + 1;
        int const thread = static_cast<int>(threadIdx.x);
        int const count = last - first;
        for (int i = thread; i < rows * kPieces; i += threads)
        {
            int const row = i / kPieces;
            int const piece = i % kPieces;
            int64_t const start = full_start + row * full_pitch + first;
            int const low = piece * kTogether - static_cast<int>(start % kTogether);
            if (low < count)
            {
                Pack<T> pack = {};
                if (staged != nullptr)
                {
                    pack = *reinterpret_cast<Pack<T> const*>(staged + row * kPitch + piece * kTogether);
                }
                put(full, start, low, count, pack);
            }
        }
        int const lane = thread % 32;
        for (int position = first + thread / 32; position < last; position += threads / 32)
        {
            int const y = position / support_w;
            int const x = position % support_w;
            if (y % stride != 0 || x % stride != 0)
            {
                continue;
            }
            int64_t const kept = static_cast<int64_t>(y / stride) * ceil_div(support_w, stride) + x / stride;
            int64_t const start = pruned_start + kept * pruned_pitch;
            int const moved = static_cast<int>(start % kTogether);
            for (int low = lane * kTogether - moved; low < rows; low += 32 * kTogether)
            {
                Pack<T> pack = {};
#pragma unroll
                for (int e = 0; e < kTogether; ++e)
                {
                    int const row = low + e;
                    if (staged != nullptr && row >= 0 && row < rows)
                    {
                        pack.value[e] = staged[row * kPitch + shift(row, first) + position - first];
                    }
                }
                put(pruned, start, low, rows, pack);
            }
        }
    }
};

} // namespace hsnet

#endif
