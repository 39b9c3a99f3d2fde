// What one call of the correlation op is: its sizes, the parts of its workspace, the grids of its
// three kernels. Plain C++, so that the plugin, the kernels and a host test read the same page.
// plan.py says the same in Python; a test holds the two together.
#ifndef HSNET_PLAN_H
#define HSNET_PLAN_H

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define HSNET_HOST_DEVICE __host__ __device__
#else
#define HSNET_HOST_DEVICE
#endif

namespace hsnet
{

struct Problem
{
    // Tensors. Elements are half or float; query and support as given, full and pruned as written.
    void const* query;   // [B, L, C, query_h * query_w], raw
    void const* support; // [S, L, C, support_h * support_w], masked and normalised
    void* full;          // [B * S * query_h * query_w, L, support_h, support_w]
    void* pruned;        // [B * S * pruned_h * pruned_w, L, query_h, query_w]
    // Workspace.
    void* packed_query;    // [B, L, C, query_pitch]; unused where rows are aligned as they are
    void* packed_support;  // [S, L, C, support_pitch]; only the columns that are not zero
    float* squares;        // [parts, B, L, query_pitch]; sums of squares over a part of the channels
    int32_t* positions;    // [S, L, support_pitch]; packed column -> support position
    int32_t* counts;       // [S, L]; how many columns are not zero
    uint8_t* flags;        // [S, L, parts, support_pitch / elements of 16 bytes]; a bit per column:
                           // whether it is not zero in a part of the channels
    int32_t batch;
    int32_t supports;
    int32_t layers;
    int32_t channels;
    int32_t query_h;
    int32_t query_w;
    int32_t support_h;
    int32_t support_w;
    int32_t stride;
    int32_t query_pitch;
    int32_t support_pitch;
};

struct Grid
{
    unsigned x;
    unsigned y;
    unsigned z;
    unsigned threads;
};

constexpr int kPieceBytes = 16;     // of one vector, and of one asynchronous copy
constexpr int kSectorBytes = 32;    // of what global memory moves at least
constexpr int kRowBytes = 128;      // rows in the workspace start on it
constexpr int kWindowPieces = 30;   // that a warp of prepare or gather handles at a time; of the 32
                                    // that it loads, from whole sectors, two are for the shift
constexpr int kPartChannels = 128;  // that one block of prepare or gather goes through
constexpr int kPackThreads = 256;   // of prepare and gather
constexpr int kLargeTile = 128;
constexpr int kSmallTile = 64;
constexpr int kSplitTile = 32;
constexpr int kSplitGroups = 4; // of warps, among which the channels of a tile are split
constexpr int kLargeThreads = 256;
constexpr int kSmallThreads = 128;
constexpr int kSplitThreads = 128;

enum class Tiles
{
    kLarge,
    kSmall,
    kSplit
};

HSNET_HOST_DEVICE inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

HSNET_HOST_DEVICE inline int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

// Rows that start on whole sectors are read where they are; others are copied to the workspace.
HSNET_HOST_DEVICE inline bool rows_are_aligned(int64_t positions, size_t element_size)
{
    return positions * static_cast<int64_t>(element_size) % kSectorBytes == 0;
}

HSNET_HOST_DEVICE inline int channel_parts(Problem const& p)
{
    return static_cast<int>(ceil_div(p.channels, kPartChannels));
}

// Fills the pitches and the workspace pointers; returns the bytes of the workspace. base may be
// null when only the size is wanted.
inline size_t lay_out(Problem& p, size_t element_size, void* base)
{
    int64_t const size = static_cast<int64_t>(element_size);
    int64_t const nq = static_cast<int64_t>(p.query_h) * p.query_w;
    int64_t const ns = static_cast<int64_t>(p.support_h) * p.support_w;
    p.query_pitch = static_cast<int32_t>(round_up(nq, kRowBytes / size));
    p.support_pitch = static_cast<int32_t>(round_up(ns, kRowBytes / size));
    int64_t const query_rows = static_cast<int64_t>(p.batch) * p.layers;
    int64_t const support_rows = static_cast<int64_t>(p.supports) * p.layers;
    size_t used = 0;
    auto take = [&](int64_t bytes) {
        size_t const at = used;
        used += static_cast<size_t>(round_up(bytes, 256));
        return static_cast<void*>(static_cast<char*>(base) + (base == nullptr ? 0 : at));
    };
    bool const aligned = rows_are_aligned(nq, element_size);
    p.packed_query = take(aligned ? 0 : query_rows * p.channels * p.query_pitch * size);
    p.packed_support = take(support_rows * p.channels * p.support_pitch * size);
    p.squares = static_cast<float*>(take(channel_parts(p) * query_rows * p.query_pitch * 4));
    p.positions = static_cast<int32_t*>(take(support_rows * p.support_pitch * 4));
    p.counts = static_cast<int32_t*>(take(support_rows * 4));
    p.flags = static_cast<uint8_t*>(
        take(support_rows * channel_parts(p) * (p.support_pitch / (kPieceBytes / size))));
    return used;
}

// How many windows of columns one row is.
HSNET_HOST_DEVICE inline int64_t window_count(int64_t positions, size_t element_size)
{
    return ceil_div(positions, kWindowPieces * (kPieceBytes / static_cast<int64_t>(element_size)));
}

inline Grid prepare_grid(Problem const& p, size_t element_size)
{
    int64_t const query = window_count(static_cast<int64_t>(p.query_h) * p.query_w, element_size) * p.batch;
    int64_t const support
        = window_count(static_cast<int64_t>(p.support_h) * p.support_w, element_size) * p.supports;
    return {static_cast<unsigned>((query + support) * p.layers * channel_parts(p)), 1, 1, kPackThreads};
}

inline Grid gather_grid(Problem const& p, size_t element_size)
{
    int64_t const windows = window_count(static_cast<int64_t>(p.support_h) * p.support_w, element_size);
    return {static_cast<unsigned>(windows * channel_parts(p)), static_cast<unsigned>(p.layers),
        static_cast<unsigned>(p.supports), kPackThreads};
}

inline Grid correlate_grid(Problem const& p, Tiles tiles)
{
    int const tile = tiles == Tiles::kLarge ? kLargeTile : tiles == Tiles::kSmall ? kSmallTile : kSplitTile;
    int const threads = tiles == Tiles::kLarge ? kLargeThreads
        : tiles == Tiles::kSmall               ? kSmallThreads
                                               : kSplitThreads;
    int64_t const rows = ceil_div(static_cast<int64_t>(p.query_h) * p.query_w, tile);
    int64_t const columns = ceil_div(static_cast<int64_t>(p.support_h) * p.support_w, tile);
    return {static_cast<unsigned>(rows * columns), static_cast<unsigned>(p.layers),
        static_cast<unsigned>(p.batch * p.supports), static_cast<unsigned>(threads)};
}

// Large tiles move the fewest bytes through shared memory; small ones keep every multiprocessor
// busy where large ones would leave some idle, and where small ones would, too, the channels of
// smaller ones yet are split. One large block of floats fills a multiprocessor, so that a last wave
// of few of them costs as much as a full one.
inline Tiles choose_tiles(Problem const& p, size_t element_size, int multiprocessors)
{
    auto const blocks = [&](Tiles tiles) {
        Grid const grid = correlate_grid(p, tiles);
        return static_cast<int64_t>(grid.x) * grid.y * grid.z;
    };
    if (blocks(Tiles::kLarge) >= (element_size == 4 ? 4 : 1) * static_cast<int64_t>(multiprocessors))
    {
        return Tiles::kLarge;
    }
    return blocks(Tiles::kSmall) >= multiprocessors ? Tiles::kSmall : Tiles::kSplit;
}

} // namespace hsnet

#endif
