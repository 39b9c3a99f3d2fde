#include "launch.h"

#include "../kernels/correlation.cu"

namespace hsnet
{
cudaError_t launch(Problem const& p, bool half, cudaStream_t stream)
{
    Tiles const tiles = choose_tiles(p, half ? 2 : 4);
    auto* kernel = half ? hsnet_correlate_large_f16 : hsnet_correlate_large_f32;
    if (tiles == Tiles::kSmall)
    {
        kernel = half ? hsnet_correlate_small_f16 : hsnet_correlate_small_f32;
    }
    if (tiles == Tiles::kSplit)
    {
        kernel = half ? hsnet_correlate_split_f16 : hsnet_correlate_split_f32;
    }
    Grid const grid = correlate_grid(p, tiles, half ? 2 : 4);
    // Its own error: the last error of the thread may be an older one, of another library.
    Problem argument = p;
    void* arguments[] = {&argument};
    return cudaLaunchKernel(kernel, dim3(grid.x, grid.y, grid.z), dim3(grid.threads), arguments, 0, stream);
}

} // namespace hsnet
