// A shared library with one entry per thing a test asks for: run the op, or ask for its plan.
#include "emulator.h"

#include "kernels/correlation.cu"

Dim threadIdx, blockIdx, gridDim;
emulator::Block* emulator::block = nullptr;
char const* emulator::error = nullptr;

namespace
{

void enter()
{
    emulator::block->body();
    emulator::self().done = true;
    emulator::hand_over();
}

void run(void (*kernel)(Problem), Problem const& p, hsnet::Grid grid, std::mt19937& random)
{
    constexpr size_t kStack = 64 * 1024;
    emulator::Block block;
    emulator::block = &block;
    block.fibers.resize(grid.threads);
    block.warps.resize((grid.threads + 31) / 32);
    block.body = [&] { kernel(p); };
    for (auto& fiber : block.fibers)
    {
        fiber.stack.resize(kStack);
    }
    std::vector<unsigned> order(grid.threads);
    for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x)
    {
#ifdef HSNET_COUNTS
        if (!counters::begin_block(grid.threads))
        {
            continue;
        }
#endif
        blockIdx = {x, y, z};
        gridDim = {grid.x, grid.y, grid.z};
        block.barrier = {};
        for (unsigned i = 0; i < grid.threads; ++i)
        {
            auto& fiber = block.fibers[i];
            fiber.done = false;
            fiber.started = false;
            fiber.index = i;
            fiber.groups.clear();
            fiber.open.clear();
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = kStack;
            fiber.context.uc_link = nullptr;
            makecontext(&fiber.context, enter, 0);
            order[i] = i;
        }
        // Warps in any order; the lanes of one stay neighbours, which is quick.
        std::vector<unsigned> warps(grid.threads / 32);
        for (unsigned w = 0; w < warps.size(); ++w)
        {
            warps[w] = w;
        }
        std::shuffle(warps.begin(), warps.end(), random);
        size_t left = grid.threads;
        while (left > 0)
        {
            for (unsigned w : warps)
            {
                // A warp runs on until it waits for another, as far ahead as it can get.
                bool moved = true;
                while (moved)
                {
                    unsigned const before = block.warps[w].barrier.generation;
                    for (unsigned i = w * 32; i < (w + 1) * 32; ++i)
                    {
                        auto& fiber = block.fibers[i];
                        if (fiber.done)
                        {
                            continue;
                        }
                        block.current = i;
                        threadIdx = {i, 0, 0};
#ifdef HSNET_COUNTS
                        counters::set_lane(i);
#endif
                        emulator::resume(fiber);
                        left -= fiber.done ? 1 : 0;
                    }
                    moved = block.warps[w].barrier.generation != before;
                }
            }
        }
#ifdef HSNET_COUNTS
        counters::end_block();
#endif
    }
    emulator::block = nullptr;
}

void (*correlate_kernel(bool half, hsnet::Tiles tiles))(Problem)
{
    switch (tiles)
    {
    case hsnet::Tiles::kLarge: return half ? hsnet_correlate_large_f16 : hsnet_correlate_large_f32;
    case hsnet::Tiles::kSmall: return half ? hsnet_correlate_small_f16 : hsnet_correlate_small_f32;
    default: return half ? hsnet_correlate_split_f16 : hsnet_correlate_split_f32;
    }
}

Problem problem_of(int32_t const* sizes, void* const* tensors = nullptr)
{
    Problem p{};
    int32_t* const fields[] = {&p.batch, &p.supports, &p.layers, &p.channels, &p.query_h, &p.query_w,
        &p.support_h, &p.support_w, &p.stride, &p.query_row, &p.column_row, &p.multiprocessors};
    for (int i = 0; i < 12; ++i)
    {
        *fields[i] = sizes[i];
    }
    if (tensors != nullptr)
    {
        p.query = tensors[0];
        p.columns = tensors[1];
        p.positions = static_cast<int32_t const*>(tensors[2]);
        p.counts = static_cast<int32_t const*>(tensors[3]);
        p.full = tensors[4];
        p.pruned = tensors[5];
    }
    return p;
}

} // namespace

// sizes: batch, supports, layers, channels, query_h, query_w, support_h, support_w, stride, query_row,
// column_row, multiprocessors. plan receives the grid (x, y, z, threads), the number of Tiles, and the bytes of the
// kernel's parameter.
extern "C" void hsnet_plan(int32_t const* sizes, int element_size, int64_t* plan)
{
    Problem const p = problem_of(sizes);
    hsnet::Tiles const tiles = hsnet::choose_tiles(p, static_cast<size_t>(element_size));
    hsnet::Grid const grid = hsnet::correlate_grid(p, tiles, element_size);
    int at = 0;
    for (int64_t figure : {int64_t{grid.x}, int64_t{grid.y}, int64_t{grid.z}, int64_t{grid.threads},
             static_cast<int64_t>(tiles), static_cast<int64_t>(sizeof(Problem))})
    {
        plan[at++] = figure;
    }
}

// tensors: query, columns, positions, counts, full, pruned; 16-byte aligned, and the outputs
// poisoned by the caller. Returns -1 where the kernel broke a rule.
extern "C" int hsnet_run(int32_t const* sizes, int half, int tiles, unsigned seed, void* const* tensors)
{
    Problem const p = problem_of(sizes, tensors);
    std::mt19937 random(seed);
    emulator::error = nullptr;
    auto const form = static_cast<hsnet::Tiles>(tiles);
    run(correlate_kernel(half != 0, form), p, hsnet::correlate_grid(p, form, half != 0 ? 2 : 4), random);
    return emulator::error == nullptr ? 0 : -1;
}

extern "C" char const* hsnet_error()
{
    return emulator::error == nullptr ? "" : emulator::error;
}
