// The kernels, under the names by which the plugins launch them.
#include "correlate.cuh"

using hsnet::Problem;

// sm_75 has shared memory for only one large block.
#if __CUDA_ARCH__ < 800
#define HSNET_HALF_BLOCKS 1
#else
#define HSNET_HALF_BLOCKS 2
#endif

// BLOCKS, the fewest resident blocks per multiprocessor, limits the registers. With two large FP16
// blocks, one multiplies while the other writes. Their four warps of 64 x 64 read each row of a stage
// twice; eight of 64 x 32 would read the query's four times. FP32 has registers for 64 x 32.
#define HSNET_KERNEL(NAME, T, BLOCKS, FORM, FINER) \
    extern "C" __global__ void __launch_bounds__(FORM<T>::kThreads, BLOCKS) \
        hsnet_correlate_##NAME(const Problem p) \
    { \
        hsnet::correlate<FORM<T>, FINER<T>>(p); \
    }

template <class T>
using Large = hsnet::Form<T, hsnet::kLargeTile, sizeof(T) == 2 ? hsnet::kLargeTile : hsnet::kLargeFloatColumns, 2, 2, 1>;
template <class T>
using Small = hsnet::Form<T, hsnet::kSmallTile, hsnet::kSmallTile, 2, 2, 1>;
template <class T>
using Split = hsnet::Form<T, hsnet::kSplitTile, hsnet::kSplitTile, 1, 1, hsnet::kSplitGroups>;

HSNET_KERNEL(large_f16, __half, HSNET_HALF_BLOCKS, Large, Small)
HSNET_KERNEL(small_f16, __half, 2 * HSNET_HALF_BLOCKS, Small, Small)
HSNET_KERNEL(split_f16, __half, 2, Split, Split)
HSNET_KERNEL(large_f32, float, 2, Large, Large)
HSNET_KERNEL(small_f32, float, 3, Small, Small)
HSNET_KERNEL(split_f32, float, 2, Split, Split)
