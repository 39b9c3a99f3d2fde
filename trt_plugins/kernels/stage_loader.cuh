// Fills stages of shared memory with rows of an input, 16 bytes at a time, without waiting.
#ifndef HSNET_STAGE_LOADER_CUH
#define HSNET_STAGE_LOADER_CUH

#include "products.cuh"

namespace hsnet
{

// Copies stages of [depth][width] positions from rows of `pitch` elements; zero outside.
template <class T, int width, int kDepth, int threads>
struct StageLoader
{
    static constexpr int kPerPiece = Elements<T>::kPerPiece;
    static constexpr int kPiecesPerRow = width / kPerPiece;
    static constexpr int kPieces = kDepth * kPiecesPerRow / threads;
    static constexpr int kRowsPerStep = threads / kPiecesPerRow;

    T const* rows;
    T const* next;
    int64_t pitch;
    int channel;
    int piece;
    bool inside;

    __device__ __forceinline__ StageLoader(T const* source, int row_pitch, int start, int end)
        : rows(source)
        , pitch(row_pitch)
    {
        int const thread = static_cast<int>(threadIdx.x);
        channel = thread / kPiecesPerRow;
        piece = thread % kPiecesPerRow;
        int const position = start + piece * kPerPiece;
        inside = position < end;
        next = source + channel * pitch + position;
    }

    __device__ __forceinline__ void load(T* stage, int first_channel, int channels)
    {
#pragma unroll
        for (int i = 0; i < kPieces; ++i)
        {
            int const line = channel + i * kRowsPerStep;
            bool const valid = inside && first_channel + line < channels;
            // What is not valid is not read. Which of the two leaves registers enough is up to ptxas:
            // with the other one (CUDA 13.0) large_f16 spills 16 to 20 bytes.
#if __CUDA_ARCH__ >= 1200
            T const* const from = next + i * kRowsPerStep * pitch;
#else
            T const* const from = valid ? next + i * kRowsPerStep * pitch : rows;
#endif
            copy_async(stage + line * width + swizzle<T, width>(line, piece) * kPerPiece, from, valid);
        }
        next += kDepth * pitch;
    }
};

} // namespace hsnet

#endif
