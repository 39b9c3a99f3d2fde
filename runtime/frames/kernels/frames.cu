// What happens to a frame before and after the network: uint8 photograph -> normalised planes, and
// logits -> masks, scores and labels at the photograph's own size. The arithmetic is that of the
// CPU path step by step (Pillow's fixed-point resampling, NumPy's float32 rounding: no fused
// multiply-adds), columns before rows. Where Pillow takes rows first, as it does where that is less
// work, a pixel may differ by one grey level.
#include <cstdint>
#include <cuda_fp16.h>

namespace
{

constexpr int kPrecision = 22;  // Pillow: 32 - 8 bits of a channel - 2 bits of head room
constexpr int kTile = 8;        // vectors that a thread compares with its position at once

__device__ float asFloat(float value) { return value; }
__device__ float asFloat(__half value) { return __half2float(value); }
__device__ void store(float* to, float value) { *to = value; }
__device__ void store(__half* to, float value) { *to = __float2half_rn(value); }

__device__ int clip8(int sum)
{
    int const value = sum >> kPrecision;
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

// Every kernel takes one of these by value; frame_kernels.py packs the same bytes.
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

struct Vote
{
    void const* logits;     // chunks of shots, each [chunk_shots, 2, decoder_h, decoder_w]
    int32_t const* low_x;   // [width]: lower decoder column
    float const* along_x;   // [width]: weight of the upper one
    int32_t const* low_y;   // [height]
    float const* along_y;   // [height]
    int32_t const* first;   // [classes + 1]: first shot of each class
    uint16_t* votes;        // [classes, height, width]
    float* scores;          // [classes, height, width]; null where nobody needs them
    int32_t* largest;       // [classes + 1]: zeroed before; the last becomes 1 if not finite
    int64_t chunk_elements; // from chunk to chunk
    int32_t chunk_shots;
    int32_t classes;
    int32_t decoder_h;
    int32_t decoder_w;
    int32_t height;
    int32_t width;
};

struct Settle
{
    uint16_t const* votes;
    float const* scores; // null where there is one class
    int32_t const* largest;
    uint8_t* labels; // [height, width]
    uint8_t* masks;  // [classes, height, width] of 0 and 1; null where there is one class
    int32_t classes;
    int32_t count; // height * width
};

struct Likeness
{
    void const* features; // [channels, positions]: the last layer of level 4
    float const* objects; // [channels, vectors rounded up to whole tiles]
    int32_t* best;        // [vectors]: zeroed before; the bits of a float of 0 or more
    int32_t channels;
    int32_t positions;
    int32_t vectors;
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

template <typename T>
__device__ float difference(T const* shot, int64_t plane, int64_t at)
{
    return __fsub_rn(asFloat(shot[plane + at]), asFloat(shot[at]));
}

template <typename T>
__device__ void vote(Vote const& p)
{
    int const x = blockIdx.x * blockDim.x + threadIdx.x;
    int const y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= p.width || y >= p.height)
    {
        return;
    }
    int64_t const plane = static_cast<int64_t>(p.decoder_h) * p.decoder_w;
    int64_t const at = static_cast<int64_t>(p.low_y[y]) * p.decoder_w + p.low_x[x];
    float const ax = p.along_x[x];
    float const ay = p.along_y[y];
    int64_t const pixel = static_cast<int64_t>(y) * p.width + x;
    int64_t const count = static_cast<int64_t>(p.height) * p.width;
    for (int c = 0; c < p.classes; ++c)
    {
        int votes = 0;
        float score = 0.F;
        for (int s = p.first[c]; s < p.first[c + 1]; ++s)
        {
            T const* const shot = static_cast<T const*>(p.logits)
                + (s / p.chunk_shots) * p.chunk_elements + (s % p.chunk_shots) * 2 * plane;
            float const a = difference(shot, plane, at);
            float const b = difference(shot, plane, at + 1);
            float const d = difference(shot, plane, at + p.decoder_w);
            float const e = difference(shot, plane, at + p.decoder_w + 1);
            float const above = __fadd_rn(a, __fmul_rn(ax, __fsub_rn(b, a)));
            float const below = __fadd_rn(d, __fmul_rn(ax, __fsub_rn(e, d)));
            float const value = __fadd_rn(__fmul_rn(__fsub_rn(below, above), ay), above);
            if (!isfinite(value))
            {
                p.largest[p.classes] = 1;
            }
            votes += value > 0.F;
            if (p.scores)
            {
                score += 1.F / (1.F + expf(-fminf(fmaxf(value, -80.F), 80.F)));
            }
        }
        p.votes[c * count + pixel] = static_cast<uint16_t>(votes);
        if (p.scores)
        {
            p.scores[c * count + pixel] = score / static_cast<float>(p.first[c + 1] - p.first[c]);
        }
        if (votes > p.largest[c]) // stale at worst, and then atomicMax changes nothing
        {
            atomicMax(p.largest + c, votes);
        }
    }
}

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
        if (first + i < p.vectors && match > 0.F) // floats above zero are in the order of their bits
        {
            atomicMax(p.best + first + i, __float_as_int(match));
        }
    }
}

} // namespace

extern "C" __global__ void hsnet_likeness_f32(Likeness p) { likeness<float>(p); }
extern "C" __global__ void hsnet_likeness_f16(Likeness p) { likeness<__half>(p); }
extern "C" __global__ void hsnet_prepare_f32(Prepare p) { prepare<float>(p); }
extern "C" __global__ void hsnet_prepare_f16(Prepare p) { prepare<__half>(p); }
extern "C" __global__ void hsnet_vote_f32(Vote p) { vote<float>(p); }
extern "C" __global__ void hsnet_vote_f16(Vote p) { vote<__half>(p); }

extern "C" __global__ void hsnet_settle(Settle p)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.count)
    {
        return;
    }
    int label = 0;
    float best = 0.F;
    for (int c = 0; c < p.classes; ++c)
    {
        int64_t const at = static_cast<int64_t>(c) * p.count + i;
        int const largest = p.largest[c] > 1 ? p.largest[c] : 1;
        bool const holds = p.votes[at] >= (largest + 1) / 2; // votes / largest >= 0.5
        if (p.masks)
        {
            p.masks[at] = holds;
        }
        float const score = p.scores ? p.scores[at] : 0.F;
        if (holds && (label == 0 || score > best))
        {
            label = c + 1;
            best = score;
        }
    }
    p.labels[i] = static_cast<uint8_t>(label);
}
