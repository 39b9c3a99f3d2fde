// What one call of the correlation op is: its tensors, their sizes, the grid of its kernel. Plain C++, so that the plugin, the kernels and a host test read the same page.
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
    // Elements are half or float. A row is a multiple of kRowUnit elements, so that it begins on a sector.
    void const* query;        // [B, L, C, query_row], raw; query_h * query_w positions and any rest
    void const* columns;      // [S, L, C, column_row]; the columns under a support's mask, side by side
    int32_t const* positions; // [S, column_row]; where on the support's grid a column belongs, ascending
    int32_t const* counts;    // [S]; how many columns a support has
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
constexpr int kSectorBytes = 32;    // of what global memory moves at least
constexpr int kRowUnit = 16;        // elements of which a row is a multiple
constexpr int kLargeTile = 128;
constexpr int kLargeFloatColumns = 64; // the sums of more floats would not fit into four warps
constexpr int kSmallTile = 64;
constexpr int kCut = 4;           // small tiles of a large one
constexpr int kLargeResident = 2; // large blocks of halves on a multiprocessor
constexpr int kSplitTile = 32;
constexpr int kSplitGroups = 4; // of warps, among which the channels of a tile are split
constexpr int kThreads = 128; // of a block

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

// How many of so many large tiles of halves are cut in four, the last ones: those that would be left
// for a wave of few blocks, where all that they are cut to begin at once. A multiple of the layers, so
// that every layer's part of the grid grows by as many blocks. Of one pair alone: several have more
// waves than the last.
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

// Large tiles move the fewest bytes through shared memory; small ones keep every multiprocessor
// busy where large ones would leave some idle, and where small ones would, too, the channels of
// smaller ones yet are split. Two large blocks of floats fill a multiprocessor, so that a last wave
// of few of them costs as much as a full one.
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
