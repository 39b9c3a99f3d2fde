// Conversions of elements, and 16-byte pieces that start at any byte.
#ifndef HSNET_PIECES_CUH
#define HSNET_PIECES_CUH

#include "plan.h"
#include "ptx.cuh"

namespace hsnet
{

__device__ __forceinline__ float to_float(float value)
{
    return value;
}
__device__ __forceinline__ float to_float(__half value)
{
    return __half2float(value);
}
template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value)
{
    return value;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value)
{
    return __float2half_rn(value);
}

template <class T>
constexpr int kPiece = kPieceBytes / static_cast<int>(sizeof(T)); // elements
template <class T>
constexpr int kSector = kSectorBytes / static_cast<int>(sizeof(T));
constexpr unsigned kAllLanes = 0xffffffffU;

// 16 bytes from byte `skip` (0 to 15) on of two consecutive pieces.
__device__ __forceinline__ uint4 join(uint4 const& low, uint4 const& high, int skip)
{
    uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    bool const two = (skip & 8) != 0;
    bool const one = (skip & 4) != 0;
#pragma unroll
    for (int k = 0; k < 6; ++k)
    {
        words[k] = two ? words[k + 2] : words[k];
    }
#pragma unroll
    for (int k = 0; k < 5; ++k)
    {
        words[k] = one ? words[k + 1] : words[k];
    }
    int const bits = skip % 4 * 8;
    return make_uint4(__funnelshift_r(words[0], words[1], bits), __funnelshift_r(words[1], words[2], bits),
        __funnelshift_r(words[2], words[3], bits), __funnelshift_r(words[3], words[4], bits));
}

} // namespace hsnet

#endif
