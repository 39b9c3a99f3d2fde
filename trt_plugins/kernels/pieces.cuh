// Rows that start at any element, read and written in pieces of 16 bytes that lie in whole sectors.
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
template <class T>
constexpr int kWindow = kWindowPieces* kPiece<T>;

constexpr unsigned kAllLanes = 0xffffffffU;

// Element e of a piece; e must be known when compiling.
template <class T>
__device__ __forceinline__ float element_of(uint4 const& piece, int e);
template <>
__device__ __forceinline__ float element_of<float>(uint4 const& piece, int e)
{
    uint32_t const words[4] = {piece.x, piece.y, piece.z, piece.w};
    return __uint_as_float(words[e]);
}
template <>
__device__ __forceinline__ float element_of<__half>(uint4 const& piece, int e)
{
    uint32_t const words[4] = {piece.x, piece.y, piece.z, piece.w};
    return __half2float(__ushort_as_half(static_cast<unsigned short>(words[e / 2] >> (16 * (e % 2)))));
}

// A piece of which only the first `count` elements (0 or less: none) are kept; zeros behind them.
template <class T>
__device__ __forceinline__ uint4 first_elements(uint4 const& piece, int count)
{
    int const bytes = count * static_cast<int>(sizeof(T));
    uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int k = 0; k < 4; ++k)
    {
        int const kept = min(max(bytes - 4 * k, 0), 4);
        words[k] = kept == 4 ? words[k] : words[k] & ((1U << (8 * kept)) - 1U);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Where `pointer` lies in its sector, in bytes.
__device__ __forceinline__ int offset_in_sector(void const* pointer)
{
    return static_cast<int>(reinterpret_cast<uintptr_t>(pointer) % kSectorBytes);
}

// Lane i receives the i-th 16 bytes from the start of the sector that holds `from`; zeros instead of
// what begins at `stop` or behind it, and of what lies outside the tensor [begin, end). begin is a
// multiple of 16 bytes.
template <class T>
__device__ __forceinline__ uint4 load_window(T const* from, T const* stop, T const* begin, T const* end, int lane)
{
    char const* const at = reinterpret_cast<char const*>(from) - offset_in_sector(from) + lane * kPieceBytes;
    auto const* const first = reinterpret_cast<char const*>(begin);
    auto const* const last = reinterpret_cast<char const*>(end);
    if (at < first || at >= reinterpret_cast<char const*>(stop))
    {
        return make_uint4(0, 0, 0, 0);
    }
    if (at + kPieceBytes <= last)
    {
        return *reinterpret_cast<uint4 const*>(at);
    }
    uint32_t words[4] = {0, 0, 0, 0}; // the tensor ends in this piece
#pragma unroll
    for (int i = 0; i < 8; ++i)
    {
        if (at + 2 * i < last)
        {
            words[i / 2] |= static_cast<uint32_t>(reinterpret_cast<uint16_t const*>(at)[i]) << (16 * (i % 2));
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// 16 bytes from byte `skip` (0 to 15) of two pieces that follow each other.
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

// Of a loaded window, lane i (below 30) receives the 16 bytes from byte `skip + 16 * i`; skip is the
// same for all lanes, 0 to 31.
__device__ __forceinline__ uint4 shift_window(uint4 const& piece, int skip, int lane)
{
    uint4 low;
    uint4 high;
    int const from = lane + skip / kPieceBytes;
    low.x = __shfl_sync(kAllLanes, piece.x, from & 31);
    low.y = __shfl_sync(kAllLanes, piece.y, from & 31);
    low.z = __shfl_sync(kAllLanes, piece.z, from & 31);
    low.w = __shfl_sync(kAllLanes, piece.w, from & 31);
    high.x = __shfl_sync(kAllLanes, piece.x, (from + 1) & 31);
    high.y = __shfl_sync(kAllLanes, piece.y, (from + 1) & 31);
    high.z = __shfl_sync(kAllLanes, piece.z, (from + 1) & 31);
    high.w = __shfl_sync(kAllLanes, piece.w, (from + 1) & 31);
    return join(low, high, skip % kPieceBytes);
}

} // namespace hsnet

#endif
