// One call of the correlation op: its tensors, their sizes, and the grid of its kernel. Plain C++, so
// that the plugin, the kernels and a host test share it. plan.py is the same in Python; a test
// compares the two.
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
    // Elements are half or float. Rows are multiples of kRowUnit elements, so that each starts on a sector.
    void const* query;        // [B, L, C, query_row], raw; query_h * query_w positions, then padding
    void const* columns;      // [S, L, C, column_row]; the columns under a support's mask, side by side
    int32_t const* positions; // [S, column_row]; each column's position on the support's grid, ascending
    int32_t const* counts;    // [S]; the number of columns of each support
    void* full;               // [B * S * query_h * query_w, L, support_h, support_w]
    void* pruned;             // [B * S * pruned_h * pruned_w, L, query_h, query_w]
    int32_t batch;
    int32_t supports;
    int32_t layers;
    int32_t channels;
    int32_t query_h;
    int32_t query_w;
    int32_t support_h;
    int32_t support_w;
    int32_t stride;
    int32_t query_row;
    int32_t column_row;
    int32_t multiprocessors; // of the GPU
};

struct Grid
{
    unsigned x;
    unsigned y;
    unsigned z;
    unsigned threads;
};

constexpr int kPieceBytes = 16;     // of one vector, and of one asynchronous copy
constexpr int kSectorBytes = 32;    // the smallest transfer of global memory
constexpr int kRowUnit = 16;        // rows are multiples of so many elements
constexpr int kLargeTile = 128;
constexpr int kLargeFloatColumns = 64; // four warps have no registers for the sums of more floats
constexpr int kSmallTile = 64;
constexpr int kCut = 4;           // small tiles in a large one
constexpr int kLargeResident = 2; // large FP16 blocks resident on a multiprocessor
constexpr int kSplitTile = 32;
constexpr int kSplitGroups = 4; // of warps, which share the channels of a tile
constexpr int kThreads = 128; // per block

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

// How many of `tiles` large FP16 tiles, the last ones, are cut in four: those of an incomplete last
// wave, if all of their parts can run at once. The number is a multiple of the layers, so that each
// layer's part of the grid grows equally. Only for a single pair: with several, the last wave is a
// smaller share of all.
HSNET_HOST_DEVICE inline int64_t cut_tiles(Problem const& p, int64_t tiles)
{
    int64_t const at_once = int64_t{kLargeResident} * p.multiprocessors;
    if (at_once < 1 || p.batch * p.supports != 1)
    {
        return 0;
    }
    int64_t const left = round_up(tiles % at_once, p.layers);
    return left < tiles && kCut * left <= at_once ? left : 0;
}

inline Grid correlate_grid(Problem const& p, Tiles tiles, size_t element_size)
{
    int const tile = tiles == Tiles::kLarge ? kLargeTile : tiles == Tiles::kSmall ? kSmallTile : kSplitTile;
    int64_t const rows = ceil_div(static_cast<int64_t>(p.query_h) * p.query_w, tile);
    int const width = tiles == Tiles::kLarge && element_size == 4 ? kLargeFloatColumns : tile;
    int64_t const columns = ceil_div(static_cast<int64_t>(p.support_h) * p.support_w, width);
    bool const cuts = tiles == Tiles::kLarge && element_size == 2;
    int64_t const more = cuts ? (kCut - 1) * cut_tiles(p, rows * columns * p.layers) / p.layers : 0;
    return {static_cast<unsigned>(rows * columns + more), static_cast<unsigned>(p.layers),
        static_cast<unsigned>(p.batch * p.supports), kThreads};
}

// Large tiles move the fewest bytes through shared memory. Small ones are used if large ones would
// leave multiprocessors idle; if small ones would too, still smaller tiles split their channels among
// warps. FP32 takes large tiles only from 8 per multiprocessor on, since two blocks fill one and an
// incomplete last wave costs as much as a full one.
inline Tiles choose_tiles(Problem const& p, size_t element_size)
{
    auto const blocks = [&](Tiles tiles) {
        Grid const grid = correlate_grid(p, tiles, element_size);
        return static_cast<int64_t>(grid.x) * grid.y * grid.z;
    };
    if (blocks(Tiles::kLarge) >= (element_size == 4 ? 8 : 1) * static_cast<int64_t>(p.multiprocessors))
    {
        return Tiles::kLarge;
    }
    return blocks(Tiles::kSmall) >= p.multiprocessors ? Tiles::kSmall : Tiles::kSplit;
}

} // namespace hsnet

#endif
