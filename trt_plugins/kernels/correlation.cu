// The kernels by the names that the plugins launch them by.
#include "correlate.cuh"

using hsnet::Problem;

// sm_75 has shared memory for one large block only.
#if __CUDA_ARCH__ < 800
#define HSNET_HALF_BLOCKS 1
#else
#define HSNET_HALF_BLOCKS 2
#endif

// The least blocks on a multiprocessor bound the registers. Two large half blocks: one multiplies
// while the other writes. The splitting of floats needs more than the 128 registers that leaves.
#define HSNET_KERNELS(SUFFIX, T, LARGE_BLOCKS, SMALL_BLOCKS) \
    extern "C" __global__ void __launch_bounds__(hsnet::kLargeThreads, LARGE_BLOCKS) \
        hsnet_correlate_large_##SUFFIX(const Problem p) \
    { \
        hsnet::correlate<T, hsnet::kLargeTile, hsnet::kLargeTile, 2, 4, 1>(p); \
    } \
    extern "C" __global__ void __launch_bounds__(hsnet::kSmallThreads, SMALL_BLOCKS) \
        hsnet_correlate_small_##SUFFIX(const Problem p) \
    { \
        hsnet::correlate<T, hsnet::kSmallTile, hsnet::kSmallTile, 2, 2, 1>(p); \
    } \
    extern "C" __global__ void __launch_bounds__(hsnet::kSplitThreads, 2) \
        hsnet_correlate_split_##SUFFIX(const Problem p) \
    { \
        hsnet::correlate<T, hsnet::kSplitTile, hsnet::kSplitTile, 1, 1, hsnet::kSplitGroups>(p); \
    }

HSNET_KERNELS(f16, __half, HSNET_HALF_BLOCKS, 2 * HSNET_HALF_BLOCKS)
HSNET_KERNELS(f32, float, 1, 3)
