// One stage of shared memory times another, into the registers of a warp. All three ways give a
// thread the same 2 x MT rows and 2 x NT columns, so one epilogue serves them all:
//   row(i)    = (i / 2) * 16 + (i % 2) * 8 + lane / 4
//   column(j) = (j / 2) * 8 + (lane % 4) * 2 + j % 2
//   sum       = sums[i / 2][j / 2][(i % 2) * 2 + j % 2]
// Where several groups of warps share a tile, each multiplies every `groups`-th step of channels.
// The query's squares are summed on the way: the `warps` that read the same rows share them, each
// taking every `warps`-th 16 of them, and the four lanes of a row share its channels:
//   squares[i] = row((i / 2 * warps + warp) * 2 + i % 2), this lane's part
// Stages hold [channel][position]; the 16-byte pieces of a row are permuted (swizzled) by its
// channel, which keeps ldmatrix and 32-bit loads free of bank conflicts.
#ifndef HSNET_PRODUCTS_CUH
#define HSNET_PRODUCTS_CUH

#include "pieces.cuh"

// Float: three TF32 products keep what FP32 keeps. They win where tensor cores outrun the FP32
// lanes by more than three times: the data-centre chips and Orin, not the GeForce and RTX cards.
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
    static constexpr int kDepth = 32;   // channels of one stage, for each group of warps
    static constexpr int kStep = 16;    // channels of one mma
};
template <>
struct Elements<float>
{
    static constexpr int kPerPiece = 4;
    static constexpr int kDepth = 16;
    static constexpr int kStep = 8;
};

// Which piece of a row of a stage, `width` positions wide, holds the given piece.
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

// Where element (channel, position) of a stage that is `width` positions wide lies.
template <class T, int width>
__device__ __forceinline__ int stage_index(int channel, int position)
{
    constexpr int kPerPiece = Elements<T>::kPerPiece;
    return channel * width + swizzle<T, width>(channel, position / kPerPiece) * kPerPiece + position % kPerPiece;
}

// How many sums of squares a thread has.
template <int MT, int warps>
constexpr int kSquares = (MT + warps - 1) / warps * 2;

// One of the two halves of a register.
__device__ __forceinline__ float half_of(uint32_t word, int e)
{
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * e))));
}

// Adds the square of a value of row(i) where this warp sums that row.
template <int warps, int KS>
__device__ __forceinline__ void add_square(float (&squares)[KS], int i, int warp, float value)
{
    int const mine = i / 2 / warps * 2 + i % 2;
    if (i / 2 % warps == warp)
    {
        squares[mine] = fmaf(value, value, squares[mine]);
    }
}

// No tensor cores: one multiply-add per lane and clock.
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
            int const row = row0 + (i / 2) * 16 + (i % 2) * 8 + lane / 4;
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
            add_square<warps>(squares, i, warp, c % 4 == lane % 4 ? a[i] : 0.0F);
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
    int const matrix = lane / 8;
    int const line = lane % 8;
#pragma unroll
    for (int step = 0; step < Elements<__half>::kDepth; step += Elements<__half>::kStep)
    {
        int const k = step * groups + group * Elements<__half>::kStep;
        uint32_t a[MT][4];
        uint32_t b[NT / 2][4];
#pragma unroll
        for (int m = 0; m < MT; ++m)
        {
            int const channel = k + line + (matrix / 2) * 8;
            int const row = row0 + m * 16 + (matrix % 2) * 8;
            load_matrices(a[m], query + stage_index<__half, BM>(channel, row));
#pragma unroll
            for (int e = 0; e < 8; ++e)
            {
                // Of each register two channels; the rows of the second and the fourth are 8 below.
                float const value = half_of(a[m][e / 2], e % 2);
                add_square<warps>(squares, 2 * m + e / 2 % 2, warp, value);
            }
        }
#pragma unroll
        for (int n = 0; n < NT / 2; ++n)
        {
            int const channel = k + line + (matrix % 2) * 8;
            int const column = column0 + n * 16 + (matrix / 2) * 8;
            load_matrices(b[n], support + stage_index<__half, BN>(channel, column));
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
__device__ __forceinline__ void split_tf32(float value, uint32_t& high, uint32_t& low)
{
    high = round_tf32(value);
    low = round_tf32(value - __uint_as_float(high));
}

template <int BM, int BN, int groups, int warps, int MT, int NT, int KS>
__device__ __forceinline__ void multiply_stage(float (&sums)[MT][NT][4], float (&squares)[KS],
    float const* query, float const* support, int row0, int column0, int lane, int group, int warp)
{
#pragma unroll
    for (int step = 0; step < Elements<float>::kDepth; step += Elements<float>::kStep)
    {
        int const k = step * groups + group * Elements<float>::kStep;
        uint32_t b_high[NT][2];
        uint32_t b_low[NT][2];
#pragma unroll
        for (int n = 0; n < NT; ++n)
        {
#pragma unroll
            for (int i = 0; i < 2; ++i)
            {
                int const channel = k + lane % 4 + i * 4;
                int const column = column0 + n * 8 + lane / 4;
                split_tf32(support[stage_index<float, BN>(channel, column)], b_high[n][i], b_low[n][i]);
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
                int const channel = k + lane % 4 + (i / 2) * 4;
                int const row = row0 + m * 16 + (i % 2) * 8 + lane / 4;
                float const value = query[stage_index<float, BM>(channel, row)];
                add_square<warps>(squares, 2 * m + i % 2, warp, value);
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
