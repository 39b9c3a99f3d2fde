// The product of two stages of shared memory, in a warp's registers. All three implementations give
// a thread the same 2 x MT rows and 2 x NT columns, so they share one epilogue:
//   row(i)    = band(i / 2) * 16 + (i % 2) * 8 + lane / 4
//   column(j) = (j / 2) * 8 + (lane % 4) * 2 + j % 2
//   sum       = sums[i / 2][j / 2][(i % 2) * 2 + j % 2]
// If several groups of warps share a tile, each multiplies every `groups`-th step of channels.
// The query's squares are summed in the same loop. The `warps` that read the same rows divide them:
// each sums the bands of 16 rows that come first in its order. The four lanes of a row divide its
// channels:
//   squares[i] = this lane's part of row(i)
// Stages hold [channel][position]. The 16-byte pieces of a row are permuted (swizzled) by its
// channel, which keeps ldmatrix and 32-bit loads free of bank conflicts. The permutation is an
// exclusive or, so the index of a position d further (in whole pieces, within the warp's own aligned
// positions) is index ^ d.
#ifndef HSNET_PRODUCTS_CUH
#define HSNET_PRODUCTS_CUH

#include "pieces.cuh"

// Float: three TF32 products reach FP32's precision. They are faster where tensor cores outrun the
// FP32 lanes by more than three times: on data-centre chips and Orin, not on GeForce and RTX cards.
#if __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870 \
    || (__CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200)
#define HSNET_FLOAT_ON_TENSOR_CORES 1
#else
#define HSNET_FLOAT_ON_TENSOR_CORES 0
#endif

namespace hsnet
{

template <class T>
struct Elements;
template <>
struct Elements<__half>
{
    static constexpr int kPerPiece = 8; // 16 bytes
    static constexpr int kDepth = 32;   // channels of one stage, per group of warps
    static constexpr int kStep = 16;    // channels of one mma
};
template <>
struct Elements<float>
{
    static constexpr int kPerPiece = 4;
    static constexpr int kDepth = 16;
    static constexpr int kStep = 8;
};

// The swizzled index of a piece in its row of a stage that is `width` positions wide.
template <class T, int width>
__device__ __forceinline__ int swizzle(int channel, int piece)
{
    constexpr int kPieces = width / Elements<T>::kPerPiece;
    if (sizeof(T) == 4)
    {
        return piece ^ ((channel & 3) * 2);
    }
    return piece ^ (kPieces < 8 ? channel / 2 & (kPieces - 1) : channel & 7);
}

// The index of element (channel, position) in a stage that is `width` positions wide.
template <class T, int width>
__device__ __forceinline__ int stage_index(int channel, int position)
{
    constexpr int kPerPiece = Elements<T>::kPerPiece;
    return channel * width + swizzle<T, width>(channel, position / kPerPiece) * kPerPiece + position % kPerPiece;
}

// The band of 16 rows that a warp takes at index m. Warps that read the same rows start with different
// bands, so that each one always sums the squares of its first a[0] to a[MT / warps - 1].
template <int MT, int warps>
__device__ __forceinline__ int band(int m, int warp)
{
    return m ^ (warp * (MT / warps));
}

template <int MT, int warps>
__device__ __forceinline__ int row_of(int i, int lane, int warp)
{
    return band<MT, warps>(i / 2, warp) * 16 + (i % 2) * 8 + lane / 4;
}

// The number of sums of squares per thread.
template <int MT, int warps>
constexpr int kSquares = MT / warps * 2;

// One of the two halves of a register.
__device__ __forceinline__ float half_of(uint32_t word, int e)
{
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * e))));
}

// Adds the square of a value of row(i), if this warp sums that row.
template <int KS>
__device__ __forceinline__ void add_square(float (&squares)[KS], int i, float value)
{
    if (i < KS)
    {
        squares[i] = fmaf(value, value, squares[i]);
    }
}

// Without tensor cores: one multiply-add per lane and clock.
template <class T, int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_plain(float (&sums)[MT][NT][4], float (&squares)[KS], T const* query,
    T const* support, int row0, int column0, int lane, int group, int warp)
{
#pragma unroll 4
    for (int c = 0; c < Elements<T>::kDepth; ++c)
    {
        int const channel = c * groups + group;
        float a[2 * MT];
        float b[2 * NT];
#pragma unroll
        for (int i = 0; i < 2 * MT; ++i)
        {
            int const row = row0 + row_of<MT, warps>(i, lane, warp);
            a[i] = to_float(query[stage_index<T, BM>(channel, row)]);
        }
#pragma unroll
        for (int j = 0; j < 2 * NT; ++j)
        {
            int const column = column0 + (j / 2) * 8 + (lane % 4) * 2 + j % 2;
            b[j] = to_float(support[stage_index<T, BN>(channel, column)]);
        }
#pragma unroll
        for (int i = 0; i < 2 * MT; ++i)
        {
            add_square(squares, i, c % 4 == lane % 4 ? a[i] : 0.0F);
#pragma unroll
            for (int j = 0; j < 2 * NT; ++j)
            {
                float& sum = sums[i / 2][j / 2][(i % 2) * 2 + j % 2];
                sum = fmaf(a[i], b[j], sum);
            }
        }
    }
}

#if __CUDA_ARCH__ >= 750
template <int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_stage(float (&sums)[MT][NT][4], float (&squares)[KS],
    __half const* query, __half const* support, int row0, int column0, int lane, int group, int warp)
{
    constexpr int kStep = Elements<__half>::kStep;
    int const matrix = lane / 8;
    int const row = row0 + band<MT, warps>(0, warp) * 16 + matrix % 2 * 8;
    int const column = column0 + matrix / 2 * 8;
    int const a_at = stage_index<__half, BM>(group * kStep + lane % 8 + matrix / 2 * 8, row);
    int const b_at = stage_index<__half, BN>(group * kStep + lane % 8 + matrix % 2 * 8, column);
#pragma unroll
    for (int step = 0; step < Elements<__half>::kDepth; step += kStep)
    {
        uint32_t a[MT][4];
        uint32_t b[NT / 2][4];
#pragma unroll
        for (int m = 0; m < MT; ++m)
        {
            load_matrices(a[m], query + step * groups * BM + (a_at ^ m * 16));
#pragma unroll
            for (int e = 0; e < 8; ++e)
            {
                // Each register holds two channels; the second and fourth are of the row 8 below.
                add_square(squares, 2 * m + e / 2 % 2, half_of(a[m][e / 2], e % 2));
            }
        }
#pragma unroll
        for (int n = 0; n < NT / 2; ++n)
        {
            load_matrices(b[n], support + step * groups * BN + (b_at ^ n * 16));
        }
#pragma unroll
        for (int m = 0; m < MT; ++m)
        {
#pragma unroll
            for (int n = 0; n < NT; ++n)
            {
                multiply_half(sums[m][n], a[m], b[n / 2][(n % 2) * 2], b[n / 2][(n % 2) * 2 + 1]);
            }
        }
    }
}
#else
template <int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_stage(float (&sums)[MT][NT][4], float (&squares)[KS],
    __half const* query, __half const* support, int row0, int column0, int lane, int group, int warp)
{
    multiply_plain<__half, BM, BN, groups, warps>(
        sums, squares, query, support, row0, column0, lane, group, warp);
}
#endif

#if HSNET_FLOAT_ON_TENSOR_CORES
// Splits a value into two TF32 numbers (10 bits of mantissa) whose sum is the value but for its last
// bits: `high` is rounded to the nearest, `low` is the rest, truncated. This takes four instructions;
// the instruction set's conversion takes a dozen. For infinite values and NaN, `low` is NaN.
__device__ __forceinline__ void split_tf32(float value, uint32_t& high, uint32_t& low)
{
    constexpr uint32_t kKept = 0xffffe000U;
    high = (__float_as_uint(value) + 0x1000U) & kKept;
    low = __float_as_uint(value - __uint_as_float(high)) & kKept;
}

template <int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_stage(float (&sums)[MT][NT][4], float (&squares)[KS],
    float const* query, float const* support, int row0, int column0, int lane, int group, int warp)
{
    constexpr int kStep = Elements<float>::kStep;
    int const channel = group * kStep + lane % 4;
    int const a_at = stage_index<float, BM>(channel, row0 + row_of<MT, warps>(0, lane, warp));
    int const b_at = stage_index<float, BN>(channel, column0 + lane / 4);
#pragma unroll
    for (int step = 0; step < Elements<float>::kDepth; step += kStep)
    {
        uint32_t b_high[NT][2];
        uint32_t b_low[NT][2];
#pragma unroll
        for (int n = 0; n < NT; ++n)
        {
#pragma unroll
            for (int i = 0; i < 2; ++i)
            {
                float const value = support[(step * groups + i * 4) * BN + (b_at ^ n * 8)];
                split_tf32(value, b_high[n][i], b_low[n][i]);
            }
        }
#pragma unroll
        for (int m = 0; m < MT; ++m)
        {
            uint32_t a_high[4];
            uint32_t a_low[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
            {
                float const value
                    = query[(step * groups + i / 2 * 4) * BM + (a_at ^ (m * 16 + i % 2 * 8))];
                add_square(squares, 2 * m + i % 2, value);
                split_tf32(value, a_high[i], a_low[i]);
            }
#pragma unroll
            for (int n = 0; n < NT; ++n)
            {
                multiply_tf32(sums[m][n], a_low, b_high[n][0], b_high[n][1]);
                multiply_tf32(sums[m][n], a_high, b_low[n][0], b_low[n][1]);
                multiply_tf32(sums[m][n], a_high, b_high[n][0], b_high[n][1]);
            }
        }
    }
}
#else
template <int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_stage(float (&sums)[MT][NT][4], float (&squares)[KS],
    float const* query, float const* support, int row0, int column0, int lane, int group, int warp)
{
    multiply_plain<float, BM, BN, groups, warps>(
        sums, squares, query, support, row0, column0, lane, group, warp);
}
#endif

} // namespace hsnet

#endif
