// What happens to a frame before and after the network: uint8 photograph -> normalised planes, and
// logits -> masks, scores and labels at the photograph's own size; between the two, where masks are
// refined, the colour model and the guided filter of pictures/. The arithmetic of the rest is that of the
// CPU path step by step (Pillow's fixed-point resampling, NumPy's float32 rounding: no fused
// multiply-adds), columns before rows. Where Pillow takes rows first, as it does where that is less
// work, a pixel may differ by one grey level.
#include <cstdint>
#include <cuda_fp16.h>

namespace
{

constexpr int kPrecision = 22;  // Pillow: 32 - 8 bits of a channel - 2 bits of head room
constexpr int kTile = 8;        // vectors that a thread compares with its position at once
constexpr int kBins = 16;       // of a channel, in the colour model's histograms
constexpr int kColours = kBins * kBins * kBins;
constexpr int kCounts = 2 * (kColours + 1) + 1; // of a shot

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

struct Colour
{
    void const* logits; // chunks of shots, each [chunk_shots, 2, height, width]
    float const* guide; // [3, height, width]
    int32_t* counts;    // [shots, kCounts]: zeroed before; see `count`
    float* values;      // [shots, height, width]: 2p - 1 of the foreground, colour counted in
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

// Where position `i` of `count` falls among `extent`, with aligned corners: between `low` and the
// next one, which has the weight `along`.
struct Between
{
    int low;
    int high;
    float along;
};

__device__ Between between(int i, int count, int extent)
{
    float const at = static_cast<float>(i) * static_cast<float>(extent - 1) / static_cast<float>(count - 1);
    int const last = extent > 1 ? extent - 2 : 0;
    int const low = static_cast<int>(at) < last ? static_cast<int>(at) : last;
    return {low, low + 1 < extent ? low + 1 : low, at - static_cast<float>(low)};
}

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

// A thread takes a position of the fine grid, and one of the logits' grid where there is one: the
// fine positions around it, weighted by a triangle as wide as a step.
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

// The bin of a position's colour.
__device__ int binOf(Colour const& p, int at)
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

// Count the colours outside each shot's answer, and all of them, then the same inside it; the last
// count is the bits of the largest logit.
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
    if (value > 0.F) // floats above zero are in the order of their bits
    {
        atomicMax(counts + kCounts - 1, __float_as_int(value));
    }
}

// What the logits and the colours say together.
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

// Fit 2p - 1 as a linear function of colour in the window around a position. Colours are taken
// relative to the position's own, so that little is lost where they hardly vary.
__device__ void fit(Fit const& p)
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
__device__ float inWindow(int i, int centre, int radius, int extent)
{
    int const first = max(centre - radius, 0);
    int const last = min(centre + radius, extent - 1);
    return i < first || i > last ? 0.F : 1.F / static_cast<float>(last - first + 1);
}

// Means over windows, enlarged bilinearly: each is a mean over a window of one more position.
__device__ void refine(Refine const& p)
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

} // namespace

extern "C" __global__ void hsnet_guide_f32(Guide p) { guide<float>(p); }
extern "C" __global__ void hsnet_guide_f16(Guide p) { guide<__half>(p); }
extern "C" __global__ void hsnet_count_f32(Colour p) { count<float>(p); }
extern "C" __global__ void hsnet_count_f16(Colour p) { count<__half>(p); }
extern "C" __global__ void hsnet_weigh_f32(Colour p) { weigh<float>(p); }
extern "C" __global__ void hsnet_weigh_f16(Colour p) { weigh<__half>(p); }
extern "C" __global__ void hsnet_fit(Fit p) { fit(p); }
extern "C" __global__ void hsnet_refine(Refine p) { refine(p); }
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
