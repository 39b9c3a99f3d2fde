// Writes the correlation of one tile of query positions in both layouts, each element once, and in
// whole sectors whatever the alignment of a row. Only the first and last sector of a block's part of a
// row may be shared with another block; their elements are written one by one.
#ifndef HSNET_STORE_CUH
#define HSNET_STORE_CUH

#include "packed.cuh"
#include "pieces.cuh"

namespace hsnet
{

// The outputs of BM query positions from row0 on. A block writes the support positions [first, last),
// a window at a time. Window k of a row starts k * window elements after the row's first sector
// boundary (window 0 includes the elements before that). Its elements are read from the staged
// offsets [k * window, (k + 1) * window + kSector).
template <class T, int BM, int window, int threads>
struct Writer
{
    static constexpr int kStaged = window + kSector<T>;
    // A multiple of 16 bytes. Rows are 12 banks (mod 32) apart, so that the words that a warp stages at
    // a time, four in each of eight rows, are in different banks.
    static constexpr int kPitch = (kStaged * static_cast<int>(sizeof(T)) / 4 + 19) / 32 * 32 * 4
            / static_cast<int>(sizeof(T))
        + 48 / static_cast<int>(sizeof(T));
    static_assert(kPitch >= kStaged, "a row has room for what is staged of it");
    static_assert(window % kSector<T> == 0, "windows are whole sectors");

    T* full;
    T* pruned;
    int64_t full_start;   // element (row0, position 0)
    int64_t full_pitch;   // from one row to the next
    int64_t pruned_start; // element (pruned position 0, row0)
    int64_t pruned_pitch; // from one pruned position to the next
    int rows;
    Kept kept;

    __device__ __forceinline__ Writer(Problem const& p, int pair, int layer, int row0)
        : full(static_cast<T*>(p.full))
        , pruned(static_cast<T*>(p.pruned))
        , rows(min(BM, p.query_h * p.query_w - row0))
        , kept(p)
    {
        int64_t const nq = static_cast<int64_t>(p.query_h) * p.query_w;
        int64_t const ns = static_cast<int64_t>(p.support_h) * p.support_w;
        full_pitch = p.layers * ns;
        full_start = (pair * nq + row0) * full_pitch + layer * ns;
        pruned_pitch = p.layers * nq;
        pruned_start = pair * kept.count * pruned_pitch + layer * nq + row0;
    }

    // Elements from `index` to the next sector boundary; only the last bits of `index` matter.
    __device__ static __forceinline__ int to_border(int index)
    {
        return -index & (kSector<T> - 1);
    }

    // Writes window k of all rows; staged is [BM][kPitch], null if the window is zero.
    __device__ __forceinline__ void write_window(T const* staged, int first, int last, int k) const
    {
        int const count = last - first;
        write_pieces(staged, first, count, k);
        if (k == 0 || (k + 1) * window + kSector<T> + kPiece<T> > count)
        {
            write_ends(staged, first, count, k);
        }
        int const from = first + k * window;
        int const end = kept.before(min(from + window, last));
        for (int at = kept.before(from) + static_cast<int>(threadIdx.x) / 32; at < end; at += threads / 32)
        {
            write_kept(staged != nullptr ? staged + (kept.position(at) - from) : nullptr, at);
        }
    }

    // Writes one pruned position by one warp, with lanes aligned to sectors: a column of the staged
    // window, or zeros if it is null.
    __device__ __forceinline__ void write_kept(T const* column, int at) const
    {
        int64_t const index = pruned_start + at * pruned_pitch;
        int const lane = static_cast<int>(threadIdx.x) % 32;
        int const before = static_cast<int>(index & (kSector<T> - 1));
        for (int row = lane - before; row < rows; row += 32)
        {
            if (row >= 0)
            {
                pruned[index + row] = column != nullptr ? column[row * kPitch] : from_float<T>(0.0F);
            }
        }
    }

private:
    // A thread writes the same piece, or element, of every kStep-th row.
    __device__ __forceinline__ void write_pieces(T const* staged, int first, int count, int k) const
    {
        constexpr int kPieces = window / kPiece<T>;
        constexpr int kStep = threads / kPieces;
        int const piece = static_cast<int>(threadIdx.x) % kPieces * kPiece<T>;
        int row = static_cast<int>(threadIdx.x) / kPieces;
        int64_t const index = full_start + row * full_pitch + first;
        T* line = full + index + k * window + piece;
        int low = static_cast<int>(index); // its last bits give the distance to the sector boundary
        for (; row < rows; row += kStep, line += kStep * full_pitch, low += kStep * static_cast<int>(full_pitch))
        {
            int const border = to_border(low);
            if (k * window + piece + border + kPiece<T> <= count)
            {
                uint4 value = make_uint4(0, 0, 0, 0);
                if (staged != nullptr)
                {
                    // Joined from two aligned pieces; the second, if not needed, may not be staged.
                    auto const* const pieces = reinterpret_cast<uint4 const*>(
                        staged + row * kPitch + piece + border / kPiece<T> * kPiece<T>);
                    int const skip = border % kPiece<T> * static_cast<int>(sizeof(T));
                    uint4 const low_piece = pieces[0];
                    uint4 const high_piece = skip == 0 ? low_piece : pieces[1];
                    value = join(low_piece, high_piece, skip);
                }
                *reinterpret_cast<uint4*>(line + border) = value;
            }
        }
    }

    // Writes elements outside whole pieces: before a row's first sector boundary (in window 0), and
    // after its last piece.
    __device__ __forceinline__ void write_ends(T const* staged, int first, int count, int k) const
    {
        constexpr int kStep = threads / kSector<T>;
        int const e = static_cast<int>(threadIdx.x) % kSector<T>;
        int row = static_cast<int>(threadIdx.x) / kSector<T>;
        int64_t const index = full_start + row * full_pitch + first;
        T* line = full + index;
        int low = static_cast<int>(index);
        for (; row < rows; row += kStep, line += kStep * full_pitch, low += kStep * static_cast<int>(full_pitch))
        {
            int const border = to_border(low);
            if (k == 0 && e < min(border, count))
            {
                line[e] = staged != nullptr ? staged[row * kPitch + e] : from_float<T>(0.0F);
            }
            int const tail = border + max(count - border, 0) / kPiece<T> * kPiece<T> + e;
            int const from = tail - k * window;
            if (tail < count && from >= border && from < border + window && e < kPiece<T>)
            {
                line[tail] = staged != nullptr ? staged[row * kPitch + from] : from_float<T>(0.0F);
            }
        }
    }
};

} // namespace hsnet

#endif
