// The guided filter of pictures/guided_filter.py: probabilities fitted as a linear function of colour
// in each window, and these functions applied on the finer grid.
#ifndef HSNET_FRAME_FILTER_CUH
#define HSNET_FRAME_FILTER_CUH

#include "values.cuh"

namespace hsnet
{

struct Fit
{
    float const* values; // [shots, height, width]
    float const* guide;  // [3, height, width]
    float* lines;        // [shots, 4, height, width]: three slopes and an offset
    int32_t height;
    int32_t width;
    int32_t radius_y;
    int32_t radius_x;
    float epsilon;
};

struct Refine
{
    float const* lines; // [shots, 4, height, width]
    float const* fine;  // [3, 2 * height, 2 * width]
    float* logits;      // [shots, 2, 2 * height, 2 * width]
    int32_t height;
    int32_t width;
    int32_t radius_y;
    int32_t radius_x;
    float surest;
};

// Fit 2p - 1 as a linear function of colour in the window around a position. Colours are taken
// relative to the position's own, against cancellation where they hardly vary.
__device__ inline void fit(Fit const& p)
{
    int const at = blockIdx.x * blockDim.x + threadIdx.x;
    int const plane = p.height * p.width;
    if (at >= plane)
    {
        return;
    }
    int const s = blockIdx.y;
    int const x = at % p.width;
    int const y = at / p.width;
    float const* const values = p.values + static_cast<int64_t>(s) * plane;
    float const red = p.guide[at];
    float const green = p.guide[plane + at];
    float const blue = p.guide[2 * plane + at];
    float mean[3] = {0.F, 0.F, 0.F};
    float product[6] = {0.F, 0.F, 0.F, 0.F, 0.F, 0.F}; // rr rg rb gg gb bb
    float with[3] = {0.F, 0.F, 0.F};
    float average = 0.F;
    int const top = max(y - p.radius_y, 0);
    int const bottom = min(y + p.radius_y, p.height - 1);
    int const left = max(x - p.radius_x, 0);
    int const right = min(x + p.radius_x, p.width - 1);
    for (int j = top; j <= bottom; ++j)
    {
        for (int i = left; i <= right; ++i)
        {
            int const k = j * p.width + i;
            float const r = p.guide[k] - red;
            float const g = p.guide[plane + k] - green;
            float const b = p.guide[2 * plane + k] - blue;
            float const value = values[k];
            mean[0] += r;
            mean[1] += g;
            mean[2] += b;
            product[0] += r * r;
            product[1] += r * g;
            product[2] += r * b;
            product[3] += g * g;
            product[4] += g * b;
            product[5] += b * b;
            with[0] += r * value;
            with[1] += g * value;
            with[2] += b * value;
            average += value;
        }
    }
    float const share = 1.F / static_cast<float>((bottom - top + 1) * (right - left + 1));
    average *= share;
    for (int c = 0; c < 3; ++c)
    {
        mean[c] *= share;
        with[c] = with[c] * share - mean[c] * average;
    }
    // The covariance of colours plus epsilon: a b c, b d e, c e f.
    float const a = product[0] * share - mean[0] * mean[0] + p.epsilon;
    float const b = product[1] * share - mean[0] * mean[1];
    float const c = product[2] * share - mean[0] * mean[2];
    float const d = product[3] * share - mean[1] * mean[1] + p.epsilon;
    float const e = product[4] * share - mean[1] * mean[2];
    float const f = product[5] * share - mean[2] * mean[2] + p.epsilon;
    float const aa = d * f - e * e; // its adjugate
    float const ab = c * e - b * f;
    float const ac = b * e - c * d;
    float const bb = a * f - c * c;
    float const bc = b * c - a * e;
    float const cc = a * d - b * b;
    float const determinant = a * aa + b * ab + c * ac;
    float const slope_r = (aa * with[0] + ab * with[1] + ac * with[2]) / determinant;
    float const slope_g = (ab * with[0] + bb * with[1] + bc * with[2]) / determinant;
    float const slope_b = (ac * with[0] + bc * with[1] + cc * with[2]) / determinant;
    float* const line = p.lines + static_cast<int64_t>(s) * 4 * plane + at;
    line[0] = slope_r;
    line[plane] = slope_g;
    line[2 * static_cast<int64_t>(plane)] = slope_b;
    line[3 * static_cast<int64_t>(plane)] = average - slope_r * (mean[0] + red)
        - slope_g * (mean[1] + green) - slope_b * (mean[2] + blue);
}

// The weight of position `i` in the mean over the window around `centre`.
__device__ inline float inWindow(int i, int centre, int radius, int extent)
{
    int const first = max(centre - radius, 0);
    int const last = min(centre + radius, extent - 1);
    return i < first || i > last ? 0.F : 1.F / static_cast<float>(last - first + 1);
}

// Apply the window means of the functions, upsampled bilinearly: the weights of two neighbouring
// windows are interpolated in each direction.
__device__ inline void refine(Refine const& p)
{
    int const at = blockIdx.x * blockDim.x + threadIdx.x;
    int const fine_w = 2 * p.width;
    int const fine = 2 * p.height * fine_w;
    if (at >= fine)
    {
        return;
    }
    int const plane = p.height * p.width;
    float const* const line = p.lines + static_cast<int64_t>(blockIdx.y) * 4 * plane;
    Between const column = between(at % fine_w, fine_w, p.width);
    Between const row = between(at / fine_w, 2 * p.height, p.height);
    int const left = max(column.low - p.radius_x, 0);
    int const right = min(column.high + p.radius_x, p.width - 1);
    int const bottom = min(row.high + p.radius_y, p.height - 1);
    float sum[4] = {0.F, 0.F, 0.F, 0.F};
    for (int j = max(row.low - p.radius_y, 0); j <= bottom; ++j)
    {
        float part[4] = {0.F, 0.F, 0.F, 0.F};
        for (int i = left; i <= right; ++i)
        {
            float const low = inWindow(i, column.low, p.radius_x, p.width);
            float const high = inWindow(i, column.high, p.radius_x, p.width);
            float const weight = low + column.along * (high - low);
            for (int c = 0; c < 4; ++c)
            {
                part[c] += weight * line[static_cast<int64_t>(c) * plane + j * p.width + i];
            }
        }
        float const low = inWindow(j, row.low, p.radius_y, p.height);
        float const high = inWindow(j, row.high, p.radius_y, p.height);
        float const weight = low + row.along * (high - low);
        for (int c = 0; c < 4; ++c)
        {
            sum[c] += weight * part[c];
        }
    }
    float value = sum[3];
    for (int c = 0; c < 3; ++c)
    {
        value += sum[c] * p.fine[static_cast<int64_t>(c) * fine + at];
    }
    value = fminf(fmaxf(value, -p.surest), p.surest);
    float* const logits = p.logits + static_cast<int64_t>(blockIdx.y) * 2 * fine + at;
    logits[0] = 0.F;
    logits[fine] = logf((1.F + value) / (1.F - value));
}

} // namespace hsnet

#endif
