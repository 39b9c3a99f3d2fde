// The colours that guide the refinement of masks: the network's input at the size of the logits, and
// at twice that.
#ifndef HSNET_FRAME_GUIDE_CUH
#define HSNET_FRAME_GUIDE_CUH

#include "values.cuh"

namespace hsnet
{

struct Guide
{
    void const* planes; // [3, network_h, network_w]: the network's input
    float* fine;        // [3, 2 * height, 2 * width]: its colours
    float* guide;       // [3, height, width]
    int32_t network_h;
    int32_t network_w;
    int32_t height; // of the logits
    int32_t width;
    float std[3]; // what the network's input was divided by
};

// The colours of a position of the fine grid, bilinear.
template <typename T>
__device__ void sample(Guide const& p, int x, int y, float* colour)
{
    Between const column = between(x, 2 * p.width, p.network_w);
    Between const row = between(y, 2 * p.height, p.network_h);
    for (int c = 0; c < 3; ++c)
    {
        T const* const plane
            = static_cast<T const*>(p.planes) + static_cast<int64_t>(c) * p.network_h * p.network_w;
        T const* const upper = plane + static_cast<int64_t>(row.low) * p.network_w;
        T const* const lower = plane + static_cast<int64_t>(row.high) * p.network_w;
        float const a = asFloat(upper[column.low]);
        float const b = asFloat(upper[column.high]);
        float const d = asFloat(lower[column.low]);
        float const e = asFloat(lower[column.high]);
        float const above = a + column.along * (b - a);
        float const below = d + column.along * (e - d);
        colour[c] = p.std[c] * (above + row.along * (below - above));
    }
}

// Each thread computes a position of the fine grid, and, if it exists, the same one of the logits' grid:
// the mean of the fine positions around it, weighted by a triangle as wide as a step.
template <typename T>
__device__ void guide(Guide const& p)
{
    int const x = blockIdx.x * blockDim.x + threadIdx.x;
    int const y = blockIdx.y * blockDim.y + threadIdx.y;
    int const fine_h = 2 * p.height;
    int const fine_w = 2 * p.width;
    if (x >= fine_w || y >= fine_h)
    {
        return;
    }
    float colour[3];
    sample<T>(p, x, y, colour);
    for (int c = 0; c < 3; ++c)
    {
        p.fine[(static_cast<int64_t>(c) * fine_h + y) * fine_w + x] = colour[c];
    }
    if (x >= p.width || y >= p.height)
    {
        return;
    }
    float const step_y = static_cast<float>(fine_h - 1) / static_cast<float>(p.height - 1);
    float const step_x = static_cast<float>(fine_w - 1) / static_cast<float>(p.width - 1);
    float sum[3] = {0.F, 0.F, 0.F};
    float total = 0.F;
    int const reach_y = static_cast<int>(step_y) + 1;
    int const reach_x = static_cast<int>(step_x) + 1;
    int const near_y = static_cast<int>(y * step_y);
    int const near_x = static_cast<int>(x * step_x);
    for (int j = near_y - reach_y; j <= near_y + reach_y + 1; ++j)
    {
        float const down = 1.F - fabsf(static_cast<float>(j) - y * step_y) / step_y;
        if (j < 0 || j >= fine_h || down <= 0.F)
        {
            continue;
        }
        for (int i = near_x - reach_x; i <= near_x + reach_x + 1; ++i)
        {
            float const across = 1.F - fabsf(static_cast<float>(i) - x * step_x) / step_x;
            if (i < 0 || i >= fine_w || across <= 0.F)
            {
                continue;
            }
            sample<T>(p, i, j, colour);
            total += down * across;
            for (int c = 0; c < 3; ++c)
            {
                sum[c] += down * across * colour[c];
            }
        }
    }
    for (int c = 0; c < 3; ++c)
    {
        p.guide[(static_cast<int64_t>(c) * p.height + y) * p.width + x] = sum[c] / total;
    }
}

} // namespace hsnet

#endif
