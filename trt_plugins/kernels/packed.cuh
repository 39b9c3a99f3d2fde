// A support's packed columns with their positions, and the positions that the stride keeps.
#ifndef HSNET_PACKED_CUH
#define HSNET_PACKED_CUH

#include "plan.h"
#include "ptx.cuh"

namespace hsnet
{

// The columns of one support. Counts and positions are clamped to their valid ranges.
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

// The support positions that the stride keeps, counted row by row.
struct Kept
{
    int width; // of the support's grid
    int stride;
    int in_row;
    int count;

    __device__ __forceinline__ explicit Kept(Problem const& p)
        : width(p.support_w)
        , stride(p.stride)
        , in_row((p.support_w + p.stride - 1) / p.stride)
    {
        count = (p.support_h + p.stride - 1) / p.stride * in_row;
    }

    // How many kept positions are before a position.
    __device__ __forceinline__ int before(int position) const
    {
        int const y = position / width;
        int const x = position - y * width;
        int const above = (y + stride - 1) / stride;
        return above * in_row + (above * stride == y ? (x + stride - 1) / stride : 0);
    }

    __device__ __forceinline__ int position(int index) const
    {
        int const y = index / in_row;
        return (y * width + index - y * in_row) * stride;
    }
};

} // namespace hsnet

#endif
