#include "launch.h"

#include "../kernels/correlation.cu"

namespace hsnet
{
namespace
{

template <class Kernel>
cudaError_t start(Kernel kernel, Grid grid, Problem const& p, cudaStream_t stream)
{
    kernel<<<dim3(grid.x, grid.y, grid.z), grid.threads, 0, stream>>>(p);
    return cudaPeekAtLastError();
}

} // namespace

cudaError_t launch(Problem p, bool half, int multiprocessors, void* workspace, cudaStream_t stream)
{
    size_t const element_size = half ? 2 : 4;
    lay_out(p, element_size, workspace);
    Tiles const tiles = choose_tiles(p, element_size, multiprocessors);
    cudaError_t error = start(half ? hsnet_prepare_f16 : hsnet_prepare_f32, prepare_grid(p, element_size), p, stream);
    if (error != cudaSuccess)
    {
        return error;
    }
    error = start(half ? hsnet_gather_f16 : hsnet_gather_f32, gather_grid(p, element_size), p, stream);
    if (error != cudaSuccess)
    {
        return error;
    }
    auto* kernel = half ? hsnet_correlate_large_f16 : hsnet_correlate_large_f32;
    if (tiles == Tiles::kSmall)
    {
        kernel = half ? hsnet_correlate_small_f16 : hsnet_correlate_small_f32;
    }
    if (tiles == Tiles::kSplit)
    {
        kernel = half ? hsnet_correlate_split_f16 : hsnet_correlate_split_f32;
    }
    return start(kernel, correlate_grid(p, tiles), p, stream);
}

} // namespace hsnet
