// The colour model of pictures/colour_model.py: the log ratio of a colour's frequency in the predicted
// foreground to that in the background, added to the logits.
#ifndef HSNET_FRAME_COLOUR_CUH
#define HSNET_FRAME_COLOUR_CUH

#include "values.cuh"

namespace hsnet
{

constexpr int kBins = 16; // of a channel, in the colour model's histograms
constexpr int kColours = kBins * kBins * kBins;
constexpr int kCounts = 2 * (kColours + 1) + 1; // of a shot

struct Colour
{
    void const* logits; // chunks of shots, each [chunk_shots, 2, height, width]
    float const* guide; // [3, height, width]
    int32_t* counts;    // [shots, kCounts]: zeroed before; see `count`
    float* values;      // [shots, height, width]: 2p - 1 of the foreground, colour evidence included
    int32_t* invalid;   // becomes 1 if some logit is not finite
    int64_t chunk_elements;
    int32_t chunk_shots;
    int32_t height;
    int32_t width;
    float mean[3]; // what was subtracted from the colours
    float weight;
    float sure;
    float rarest;
    float most;
};

// The bin of a position's colour.
__device__ inline int binOf(Colour const& p, int at)
{
    int bin = 0;
    for (int c = 0; c < 3; ++c)
    {
        float const value = __fadd_rn(p.guide[c * p.height * p.width + at], p.mean[c]);
        bin = bin * kBins + min(max(static_cast<int>(value * kBins), 0), kBins - 1);
    }
    return bin;
}

template <typename T>
__device__ float differenceAt(Colour const& p, int shot, int at)
{
    int const plane = p.height * p.width;
    T const* const logits = static_cast<T const*>(p.logits) + (shot / p.chunk_shots) * p.chunk_elements
        + static_cast<int64_t>(shot % p.chunk_shots) * 2 * plane;
    return difference(logits, plane, at);
}

// Per shot, count the colours of the background and their total, then those of the foreground and
// their total; the last count is the bits of the largest logit.
template <typename T>
__device__ void count(Colour const& p)
{
    int const at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.height * p.width)
    {
        return;
    }
    float const value = differenceAt<T>(p, blockIdx.y, at);
    int32_t* const counts = p.counts + static_cast<int64_t>(blockIdx.y) * kCounts;
    int32_t* const side = counts + (value > 0.F ? kColours + 1 : 0);
    atomicAdd(side + binOf(p, at), 1);
    atomicAdd(side + kColours, 1);
    if (value > 0.F) // positive floats compare like their bits
    {
        atomicMax(counts + kCounts - 1, __float_as_int(value));
    }
}

// Add the colours' evidence to the logits.
template <typename T>
__device__ void weigh(Colour const& p)
{
    int const at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= p.height * p.width)
    {
        return;
    }
    float value = differenceAt<T>(p, blockIdx.y, at);
    if (!isfinite(value))
    {
        *p.invalid = 1;
    }
    int32_t const* const outside = p.counts + static_cast<int64_t>(blockIdx.y) * kCounts;
    int32_t const* const inside = outside + kColours + 1;
    float const rest = static_cast<float>(outside[kColours]);
    float const object = static_cast<float>(inside[kColours]);
    if (rest > 0.F && object > 0.F)
    {
        int const bin = binOf(p, at);
        float const within = static_cast<float>(inside[bin]) / object + p.rarest;
        float const without = static_cast<float>(outside[bin]) / rest + p.rarest;
        float const ratio = fminf(fmaxf(logf(within / without), -p.most), p.most);
        float const peak = __int_as_float(inside[kColours + 1]);
        value += p.weight * fminf(peak / p.sure, 1.F) * ratio;
    }
    p.values[static_cast<int64_t>(blockIdx.y) * p.height * p.width + at] = tanhf(value / 2.F);
}

} // namespace hsnet

#endif
