// The best match of each object's vector among the features of a frame.
#ifndef HSNET_FRAME_LIKENESS_CUH
#define HSNET_FRAME_LIKENESS_CUH

#include "values.cuh"

namespace hsnet
{

constexpr int kTile = 8; // vectors that a thread compares with its position at once

struct Likeness
{
    void const* features; // [channels, positions]: the last layer of level 4
    float const* objects; // [channels, vectors rounded up to whole tiles]
    int32_t* best;        // [vectors]: zeroed before; the bits of a float of 0 or more
    int32_t channels;
    int32_t positions;
    int32_t vectors;
};

// A thread takes one position of the query and a tile of the objects' vectors; the threads of a warp
// are neighbours, and read neighbouring features.
template <typename T>
__device__ void likeness(Likeness const& p)
{
    int const at = blockIdx.y * blockDim.x + threadIdx.x;
    if (at >= p.positions)
    {
        return;
    }
    T const* const feature = static_cast<T const*>(p.features) + at;
    int const first = blockIdx.x * kTile;
    int const stride = (p.vectors + kTile - 1) / kTile * kTile;
    float const* object = p.objects + first;
    float products[kTile] = {};
    float squares = 0.F;
#pragma unroll 4
    for (int c = 0; c < p.channels; ++c, object += stride)
    {
        float const value = asFloat(feature[static_cast<int64_t>(c) * p.positions]);
        squares += value * value;
#pragma unroll
        for (int i = 0; i < kTile; ++i)
        {
            products[i] += value * object[i];
        }
    }
    float const norm = sqrtf(squares) + 1e-5F;
#pragma unroll
    for (int i = 0; i < kTile; ++i)
    {
        float const match = fminf(products[i] / norm, 1.F);
        if (first + i < p.vectors && match > 0.F) // positive floats compare like their bits
        {
            atomicMax(p.best + first + i, __float_as_int(match));
        }
    }
}

} // namespace hsnet

#endif
