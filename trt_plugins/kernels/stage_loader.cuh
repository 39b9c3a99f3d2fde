// Fills stages of shared memory with rows of an input, 16 bytes at a time, asynchronously.
#ifndef HSNET_STAGE_LOADER_CUH
#define HSNET_STAGE_LOADER_CUH

#include "products.cuh"

namespace hsnet
{

// Copies stages of [kDepth][width] positions from rows of `pitch` elements; zeros outside the input.
template <class T, int width, int kDepth, int threads>
struct StageLoader
{
    static constexpr int kPerPiece = Elements<T>::kPerPiece;
    static constexpr int kPiecesPerRow = width / kPerPiece;
    static constexpr int kPieces = kDepth * kPiecesPerRow / threads;
    static constexpr int kRowsPerStep = threads / kPiecesPerRow;

    T const* next;
    int64_t pitch;
    int channel;
    int at; // index of this thread's first piece in a stage
    bool inside;

    __device__ __forceinline__ StageLoader(T const* source, int row_pitch, int start, int end)
        : pitch(row_pitch)
    {
        int const thread = static_cast<int>(threadIdx.x);
        int const piece = thread % kPiecesPerRow;
        int const position = start + piece * kPerPiece;
        channel = thread / kPiecesPerRow;
        at = channel * width + swizzle<T, width>(channel, piece) * kPerPiece;
        inside = position < end;
        next = source + channel * pitch + position;
    }

    __device__ __forceinline__ void load(T* stage, int first_channel, int channels)
    {
        static_assert(kRowsPerStep % (sizeof(T) == 4 ? 4 : 8) == 0, "the swizzle of these rows is that of the first");
#pragma unroll
        for (int i = 0; i < kPieces; ++i)
        {
            // Invalid sources are not read.
            bool const valid = inside && first_channel + channel + i * kRowsPerStep < channels;
            copy_async(stage + at + i * kRowsPerStep * width, next + i * kRowsPerStep * pitch, valid);
        }
        next += kDepth * pitch;
    }
};

} // namespace hsnet

#endif
