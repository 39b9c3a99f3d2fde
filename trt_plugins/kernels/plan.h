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
    float* inverse_norm;   // [B, L, query_h * query_w]
    int32_t* positions;    // [S, L, support_h * support_w]; packed column -> support position
    int32_t* counts;       // [S, L]; how many columns are not zero
    uint8_t* flags;        // [S, L, support_h * support_w]; 1 where a column is not zero
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

constexpr int kColumnsPerBlock = 32; // of prepare
constexpr int kRowGroups = 16;       // of prepare: the channels are split among them
constexpr int kGatherRows = 64;      // channels that one block of gather packs
constexpr int kGatherThreads = 256;
constexpr int kLargeTile = 128;
constexpr int kSmallTile = 64;
constexpr int kLargeThreads = 256;
constexpr int kSmallThreads = 128;
constexpr int kRowBytes = 16; // of one asynchronous copy: rows in the workspace start on it

HSNET_HOST_DEVICE inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

HSNET_HOST_DEVICE inline int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

// Fills the pitches and the workspace pointers; returns the bytes of the workspace. base may be
// null when only the size is wanted.
inline size_t lay_out(Problem& p, size_t element_size, void* base)
{
    int64_t const vector = static_cast<int64_t>(kRowBytes / element_size);
    int64_t const nq = static_cast<int64_t>(p.query_h) * p.query_w;
    int64_t const ns = static_cast<int64_t>(p.support_h) * p.support_w;
    p.query_pitch = static_cast<int32_t>(round_up(nq, vector));
    p.support_pitch = static_cast<int32_t>(round_up(ns, vector));
    int64_t const query_rows = static_cast<int64_t>(p.batch) * p.layers;
    int64_t const support_rows = static_cast<int64_t>(p.supports) * p.layers;
    size_t used = 0;
    auto take = [&](int64_t bytes) {
        size_t const at = used;
        used += static_cast<size_t>(round_up(bytes, 256));
        return static_cast<void*>(static_cast<char*>(base) + (base == nullptr ? 0 : at));
    };
    int64_t const size = static_cast<int64_t>(element_size);
    bool const aligned = nq % vector == 0;
    p.packed_query = take(aligned ? 0 : query_rows * p.channels * p.query_pitch * size);
    p.packed_support = take(support_rows * p.channels * p.support_pitch * size);
    p.inverse_norm = static_cast<float*>(take(query_rows * nq * 4));
    p.positions = static_cast<int32_t*>(take(support_rows * ns * 4));
    p.counts = static_cast<int32_t*>(take(support_rows * 4));
    p.flags = static_cast<uint8_t*>(take(support_rows * ns));
    return used;
}

inline Grid prepare_grid(Problem const& p)
{
    int64_t const query = ceil_div(p.query_pitch, kColumnsPerBlock) * p.layers * p.batch;
    int64_t const support = ceil_div(p.support_pitch, kColumnsPerBlock) * p.layers * p.supports;
    return {static_cast<unsigned>(query + support), 1, 1, kColumnsPerBlock * kRowGroups};
}

inline Grid gather_grid(Problem const& p)
{
    return {static_cast<unsigned>(ceil_div(p.channels, kGatherRows)), static_cast<unsigned>(p.layers),
        static_cast<unsigned>(p.supports), kGatherThreads};
}

inline Grid correlate_grid(Problem const& p, bool large)
{
    int const tile = large ? kLargeTile : kSmallTile;
    int64_t const rows = ceil_div(static_cast<int64_t>(p.query_h) * p.query_w, tile);
    int64_t const columns = ceil_div(static_cast<int64_t>(p.support_h) * p.support_w, tile);
    return {static_cast<unsigned>(rows * columns), static_cast<unsigned>(p.layers),
        static_cast<unsigned>(p.batch * p.supports),
        static_cast<unsigned>(large ? kLargeThreads : kSmallThreads)};
}

// Large tiles move the fewest bytes through shared memory; small ones keep every multiprocessor
// busy where large ones would leave some idle.
inline bool use_large_tiles(Problem const& p, int multiprocessors)
{
    Grid const grid = correlate_grid(p, true);
    return static_cast<int64_t>(grid.x) * grid.y * grid.z >= multiprocessors;
}

} // namespace hsnet

#endif
