// Sums after the loop over channels: across groups of warps, and for the query's norms.
#ifndef HSNET_SUMS_CUH
#define HSNET_SUMS_CUH

#include "products.cuh"

namespace hsnet
{

constexpr float kEpsilon = 1e-5F; // added to the norm, as HSNet does

// Adds the sums of all groups of warps into the first group's, through `room` in shared memory.
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

// Computes the inverse norms of a tile's rows, `norms` [BM], from each thread's part of their squares.
// `norms` has room for [groups][BM].
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

} // namespace hsnet

#endif
