// Two kernels as they were when Nsight Compute counted their accesses on an H100 (revision 6c4d0ab,
// 2026-11-27): what the counters are checked against. They are not part of the op.
#ifndef HSNET_PROFILED_CUH
#define HSNET_PROFILED_CUH

#include "kernels/pieces.cuh"

namespace profiled
{

using hsnet::ceil_div;
using hsnet::from_float;
using hsnet::round_up;
using hsnet::to_float;

struct Problem
{
    void const* query;   // [B, L, C, query_h * query_w]
    void const* support; // [S, L, C, support_h * support_w]
    void* packed_query;  // [B, L, C, query_pitch]
    void* packed_support;
    float* squares;
    int32_t* positions;
    int32_t* counts;
    uint8_t* flags;
    int32_t batch;
    int32_t supports;
    int32_t layers;
    int32_t channels;
    int32_t query_h;
    int32_t query_w;
    int32_t support_h;
    int32_t support_w;
    int32_t query_pitch;
    int32_t support_pitch;
};

constexpr float kEpsilon = 1e-5F;
constexpr int kColumnsPerBlock = 32;
constexpr int kRowGroups = 16;
constexpr int kGatherRows = 64;
constexpr int kGatherThreads = 256;
constexpr int kRowBytes = 16;

// One block: 32 columns x 16 groups of channels.
template <class T>
__device__ __forceinline__ void prepare_query(Problem const& p, int64_t block, int lane, int group)
{
    __shared__ float sums[kRowGroups][kColumnsPerBlock];
    int const n = p.query_h * p.query_w;
    int const blocks = static_cast<int>(ceil_div(p.query_pitch, kColumnsPerBlock));
    int64_t const image = block / blocks; // and layer
    int const column = static_cast<int>(block % blocks) * kColumnsPerBlock + lane;
    bool const copies = n != p.query_pitch;
    T const* const source = static_cast<T const*>(p.query) + image * p.channels * n + column;
    T* const target
        = static_cast<T*>(p.packed_query) + image * p.channels * p.query_pitch + column;
    float sum = 0.0F;
    if (column < n)
    {
#pragma unroll 8
        for (int c = group; c < p.channels; c += kRowGroups)
        {
            T const value = source[static_cast<int64_t>(c) * n];
            float const x = to_float(value);
            sum += x * x;
            if (copies)
            {
                target[static_cast<int64_t>(c) * p.query_pitch] = value;
            }
        }
    }
    else if (copies && column < p.query_pitch)
    {
        for (int c = group; c < p.channels; c += kRowGroups)
        {
            target[static_cast<int64_t>(c) * p.query_pitch] = from_float<T>(0.0F);
        }
    }
    sums[group][lane] = sum;
    __syncthreads();
    if (group == 0 && column < n)
    {
        float total = 0.0F;
        for (int g = 0; g < kRowGroups; ++g)
        {
            total += sums[g][lane];
        }
        p.squares[image * n + column] = 1.0F / (sqrtf(total) + kEpsilon);
    }
}

template <class T>
__device__ __forceinline__ void prepare_support(Problem const& p, int64_t block, int lane, int group)
{
    __shared__ uint8_t found[kRowGroups][kColumnsPerBlock];
    constexpr int kAtOnce = 8;
    int const n = p.support_h * p.support_w;
    int const blocks = static_cast<int>(ceil_div(p.support_pitch, kColumnsPerBlock));
    int64_t const image = block / blocks;
    int const column = static_cast<int>(block % blocks) * kColumnsPerBlock + lane;
    T const* const source = static_cast<T const*>(p.support) + image * p.channels * n + column;
    bool any = false;
    // A column is known at its first value that is not zero: only zero columns are read to the end.
    for (int first = group; column < n && first < p.channels && !any; first += kAtOnce * kRowGroups)
    {
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
        {
            int const c = first + i * kRowGroups;
            float const x = c < p.channels ? to_float(source[static_cast<int64_t>(c) * n]) : 0.0F;
            any |= x != 0.0F; // NaN counts as not zero, -0 as zero
        }
    }
    found[group][lane] = any ? 1 : 0;
    __syncthreads();
    if (group == 0 && column < n)
    {
        uint8_t all = 0;
        for (int g = 0; g < kRowGroups; ++g)
        {
            all |= found[g][lane];
        }
        p.flags[image * n + column] = all;
    }
}

template <class T>
__device__ __forceinline__ void prepare(Problem const& p)
{
    int64_t const query_blocks
        = ceil_div(p.query_pitch, kColumnsPerBlock) * p.layers * p.batch;
    int const lane = static_cast<int>(threadIdx.x) % kColumnsPerBlock;
    int const group = static_cast<int>(threadIdx.x) / kColumnsPerBlock;
    int64_t const block = blockIdx.x;
    if (block < query_blocks)
    {
        profiled::prepare_query<T>(p, block, lane, group);
    }
    else
    {
        profiled::prepare_support<T>(p, block - query_blocks, lane, group);
    }
}

template <class T>
__device__ __forceinline__ void gather(Problem const& p)
{
    constexpr int kWarps = kGatherThreads / 32;
    __shared__ int warp_counts[kWarps];
    __shared__ int kept[kGatherThreads];
    int const n = p.support_h * p.support_w;
    int const thread = static_cast<int>(threadIdx.x);
    int const lane = thread % 32;
    int const warp = thread / 32;
    int64_t const image = static_cast<int64_t>(blockIdx.z) * p.layers + blockIdx.y;
    uint8_t const* const flags = p.flags + image * n;
    bool const records = blockIdx.x == 0;
    int const first_row = static_cast<int>(blockIdx.x) * kGatherRows;
    int const last_row = min(first_row + kGatherRows, p.channels);
    T const* const source = static_cast<T const*>(p.support) + image * p.channels * n;
    T* const target = static_cast<T*>(p.packed_support) + image * p.channels * p.support_pitch;

    int zeros = 0;
    for (int column = thread; column < n; column += kGatherThreads)
    {
        zeros += flags[column] == 0 ? 1 : 0;
    }
    // Rows that are dense and aligned are read where they are (see support_rows in correlate.cuh).
    bool const packs = __syncthreads_or(zeros) != 0 || n != p.support_pitch;

    int count = 0;
    for (int chunk = 0; chunk < n; chunk += kGatherThreads)
    {
        int const column = chunk + thread;
        bool const keep = column < n && flags[column] != 0;
        unsigned const mask = __ballot_sync(0xffffffffU, keep);
        if (lane == 0)
        {
            warp_counts[warp] = __popc(mask);
        }
        __syncthreads();
        int before = 0;
        int found = 0;
        for (int w = 0; w < kWarps; ++w)
        {
            before += w < warp ? warp_counts[w] : 0;
            found += warp_counts[w];
        }
        before += __popc(mask & ((1U << lane) - 1U));
        if (keep)
        {
            kept[before] = column;
            if (records)
            {
                p.positions[image * n + count + before] = column;
            }
        }
        __syncthreads();
        for (int row = first_row + warp; packs && row < last_row; row += kWarps)
        {
            int64_t const from = static_cast<int64_t>(row) * n;
            int64_t const to = static_cast<int64_t>(row) * p.support_pitch + count;
            for (int i = lane; i < found; i += 32)
            {
                target[to + i] = source[from + kept[i]];
            }
        }
        // No barrier: kept is next written after the barrier that follows warp_counts.
        count += found;
    }
    // The last 16 bytes of a row that is read are whole, and what fills them up is zero.
    int const padding = static_cast<int>(round_up(count, kRowBytes / static_cast<int>(sizeof(T)))) - count;
    for (int i = thread; packs && i < padding * (last_row - first_row); i += kGatherThreads)
    {
        int64_t const row = first_row + i / padding;
        target[row * p.support_pitch + count + i % padding] = from_float<T>(0.0F);
    }
    if (records && thread == 0)
    {
        p.counts[image] = count;
    }
}

} // namespace profiled

#endif
