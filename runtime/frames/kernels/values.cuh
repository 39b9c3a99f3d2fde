// Reading and writing FP16 and FP32 tensors, which are computed in FP32; positions between those of a
// grid.
#ifndef HSNET_FRAME_VALUES_CUH
#define HSNET_FRAME_VALUES_CUH

#include <cstdint>
#include <cuda_fp16.h>

namespace hsnet
{

__device__ inline float asFloat(float value) { return value; }
__device__ inline float asFloat(__half value) { return __half2float(value); }
__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(__half* to, float value) { *to = __float2half_rn(value); }

template <typename T>
__device__ float difference(T const* shot, int64_t plane, int64_t at)
{
    return __fsub_rn(asFloat(shot[plane + at]), asFloat(shot[at]));
}

// Where position `i` of `count` is among `extent` positions, with aligned corners: between `low` and
// `high`, which has the weight `along`.
struct Between
{
    int low;
    int high;
    float along;
};

__device__ inline Between between(int i, int count, int extent)
{
    float const at = static_cast<float>(i) * static_cast<float>(extent - 1) / static_cast<float>(count - 1);
    int const last = extent > 1 ? extent - 2 : 0;
    int const low = static_cast<int>(at) < last ? static_cast<int>(at) : last;
    return {low, low + 1 < extent ? low + 1 : low, at - static_cast<float>(low)};
}

} // namespace hsnet

#endif
