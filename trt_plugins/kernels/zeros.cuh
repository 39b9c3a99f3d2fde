// Zeros outside a support's columns, written by the blocks without columns.
#ifndef HSNET_ZEROS_CUH
#define HSNET_ZEROS_CUH

#include "packed.cuh"
#include "pieces.cuh"

namespace hsnet
{

// Writes zeros to `count` consecutive elements by one warp, in 16-byte pieces except at the ends.
template <class T>
__device__ __forceinline__ void write_zeros(T* line, int count)
{
    int const lane = static_cast<int>(threadIdx.x) % 32;
    int const start = static_cast<int>(reinterpret_cast<uintptr_t>(line) / sizeof(T));
    int const head = min(-start & (kSector<T> - 1), count);
    int const tail = head + (count - head) / kPiece<T> * kPiece<T>;
    if (lane < head)
    {
        line[lane] = from_float<T>(0.0F);
    }
    for (int at = head + lane * kPiece<T>; at < tail; at += 32 * kPiece<T>)
    {
        *reinterpret_cast<uint4*>(line + at) = make_uint4(0, 0, 0, 0);
    }
    if (tail + lane < count)
    {
        line[tail + lane] = from_float<T>(0.0F);
    }
}

// Writes the zeros before the first and after the last column, in all layers, by block `index` of
// `blocks`. The end of a row and the start of the next are contiguous, and so are the pruned positions
// of all layers.
template <class T, int threads>
__device__ __forceinline__ void write_zeros(Problem const& p, Packed const& packed, int pair, int index, int blocks)
{
    constexpr int kTogether = 4096; // elements that a warp writes at a time
    int const warp = index * (threads / 32) + static_cast<int>(threadIdx.x) / 32;
    int const warps = blocks * (threads / 32);
    int const first = packed.count == 0 ? 0 : packed.position(0);
    int const last = packed.count == 0 ? 0 : packed.position(packed.count - 1) + 1;
    int64_t const ns = packed.n;
    int const nq = p.query_h * p.query_w;
    int const rows = nq * p.layers;
    T* const full = static_cast<T*>(p.full) + static_cast<int64_t>(pair) * rows * ns;
    for (int row = warp; row <= rows; row += warps)
    {
        int64_t const from = row == 0 ? 0 : (row - 1) * ns + last;
        int64_t const to = row == rows ? rows * ns : row * ns + first;
        write_zeros(full + from, static_cast<int>(to - from));
    }
    Kept const kept(p);
    int64_t const begins = static_cast<int64_t>(kept.before(first)) * rows;
    int64_t const ends = static_cast<int64_t>(kept.before(last)) * rows;
    int64_t const all = static_cast<int64_t>(kept.count) * rows;
    T* const pruned = static_cast<T*>(p.pruned) + pair * all;
    for (int64_t at = static_cast<int64_t>(warp) * kTogether; at < all - (ends - begins);
         at += static_cast<int64_t>(warps) * kTogether)
    {
        // A stretch that would cross the columns is split: a part before them and one after.
        int64_t const to = min(at + kTogether, all - (ends - begins));
        int64_t const before = max(min(to, begins) - at, int64_t{0});
        write_zeros(pruned + at, static_cast<int>(before));
        write_zeros(pruned + at + before + (ends - begins), static_cast<int>(to - at - before));
    }
}

} // namespace hsnet

#endif
