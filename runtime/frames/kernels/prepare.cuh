// uint8 photograph -> normalised planes, resized as Pillow does it: fixed-point, columns before rows.
#ifndef HSNET_FRAME_PREPARE_CUH
#define HSNET_FRAME_PREPARE_CUH

#include "values.cuh"

namespace hsnet
{

constexpr int kPrecision = 22; // Pillow: 32 - 8 bits of a channel - 2 bits of head room

__device__ inline int clip8(int sum)
{
    int const value = sum >> kPrecision;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

struct Prepare
{
    uint8_t const* pixels;      // [height, pitch]: three bytes a pixel, then whatever fills the row
    void* planes;               // [3, network_h, network_w]
    int32_t const* columns;     // [content_w, 2]: first source column, how many
    int32_t const* column_taps; // [content_w, taps_x]
    int32_t const* rows;        // [content_h, 2]
    int32_t const* row_taps;    // [content_h, taps_y]
    int32_t pitch;              // bytes from row to row
    int32_t taps_x;
    int32_t taps_y;
    int32_t network_h;
    int32_t network_w;
    int32_t top;
    int32_t left;
    int32_t content_h;
    int32_t content_w;
    int32_t swap; // 1: the photograph is BGR
    float scale[3];
    float shift[3];
};

template <typename T>
__device__ void prepare(Prepare const& p)
{
    int const x = blockIdx.x * blockDim.x + threadIdx.x;
    int const y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= p.network_w || y >= p.network_h)
    {
        return;
    }
    int64_t const plane = static_cast<int64_t>(p.network_h) * p.network_w;
    T* const out = static_cast<T*>(p.planes) + static_cast<int64_t>(y) * p.network_w + x;
    int const cx = x - p.left;
    int const cy = y - p.top;
    if (cx < 0 || cy < 0 || cx >= p.content_w || cy >= p.content_h)
    {
        for (int c = 0; c < 3; ++c)
        {
            store(out + c * plane, 0.F); // the mean colour
        }
        return;
    }
    int const x0 = p.columns[2 * cx];
    int const nx = p.columns[2 * cx + 1];
    int const y0 = p.rows[2 * cy];
    int const ny = p.rows[2 * cy + 1];
    int32_t const* const wx = p.column_taps + static_cast<int64_t>(cx) * p.taps_x;
    int32_t const* const wy = p.row_taps + static_cast<int64_t>(cy) * p.taps_y;
    int down[3] = {1 << (kPrecision - 1), 1 << (kPrecision - 1), 1 << (kPrecision - 1)};
    for (int j = 0; j < ny; ++j)
    {
        uint8_t const* pixel = p.pixels + static_cast<int64_t>(y0 + j) * p.pitch + 3 * x0;
        int across[3] = {1 << (kPrecision - 1), 1 << (kPrecision - 1), 1 << (kPrecision - 1)};
        for (int i = 0; i < nx; ++i, pixel += 3)
        {
            int const w = wx[i];
            across[0] += pixel[0] * w;
            across[1] += pixel[1] * w;
            across[2] += pixel[2] * w;
        }
        int const w = wy[j];
        for (int c = 0; c < 3; ++c)
        {
            down[c] += clip8(across[c]) * w; // Pillow rounds to 8 bits between its two passes
        }
    }
    for (int c = 0; c < 3; ++c)
    {
        float const value = static_cast<float>(clip8(down[p.swap ? 2 - c : c]));
        store(out + c * plane, __fadd_rn(__fmul_rn(value, p.scale[c]), p.shift[c]));
    }
}

} // namespace hsnet

#endif
