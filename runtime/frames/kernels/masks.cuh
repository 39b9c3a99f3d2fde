// Logits -> masks, scores and labels at the photograph's own size.
#ifndef HSNET_FRAME_MASKS_CUH
#define HSNET_FRAME_MASKS_CUH

#include "values.cuh"

namespace hsnet
{

struct Vote
{
    void const* logits;     // chunks of shots, each [chunk_shots, 2, decoder_h, decoder_w]
    int32_t const* low_x;   // [width]: lower decoder column
    float const* along_x;   // [width]: weight of the upper one
    int32_t const* low_y;   // [height]
    float const* along_y;   // [height]
    int32_t const* first;   // [classes + 1]: first shot of each class
    uint16_t* votes;        // [classes, height, width]
    float* scores;          // [classes, height, width]; null if not needed
    int32_t* largest;       // [classes + 1]: zeroed before; the last becomes 1 if a logit is not finite
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

__device__ inline void settle(Settle p)
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

} // namespace hsnet

#endif
