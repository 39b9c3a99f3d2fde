// A shared library with one entry per thing a test asks for: run the op, or ask for its plan.
#include "emulator.h"

#include "kernels/correlation.cu"

Dim threadIdx, blockIdx;
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

Problem problem_of(int32_t const* sizes)
{
    Problem p{};
    int32_t* const fields[] = {&p.batch, &p.supports, &p.layers, &p.channels, &p.query_h, &p.query_w,
        &p.support_h, &p.support_w, &p.stride};
    for (int i = 0; i < 9; ++i)
    {
        *fields[i] = sizes[i];
    }
    return p;
}

} // namespace

// sizes: batch, supports, layers, channels, query_h, query_w, support_h, support_w, stride.
// Returns the workspace's bytes; plan receives query_pitch, support_pitch and the offsets of the six
// parts, the grids (x, y, z, threads) of prepare, gather, correlate, the number of Tiles, and the
// bytes of the kernels' parameter.
extern "C" int64_t hsnet_plan(int32_t const* sizes, int element_size, int multiprocessors, int64_t* plan)
{
    Problem p = problem_of(sizes);
    alignas(256) static char base[256];
    size_t const bytes = hsnet::lay_out(p, static_cast<size_t>(element_size), base);
    int at = 0;
    plan[at++] = p.query_pitch;
    plan[at++] = p.support_pitch;
    for (void const* part : {static_cast<void const*>(p.packed_query), static_cast<void const*>(p.packed_support),
             static_cast<void const*>(p.squares), static_cast<void const*>(p.positions),
             static_cast<void const*>(p.counts), static_cast<void const*>(p.flags)})
    {
        plan[at++] = static_cast<char const*>(part) - base;
    }
    hsnet::Tiles const tiles = hsnet::choose_tiles(p, static_cast<size_t>(element_size), multiprocessors);
    for (hsnet::Grid grid : {hsnet::prepare_grid(p, static_cast<size_t>(element_size)),
             hsnet::gather_grid(p, static_cast<size_t>(element_size)), hsnet::correlate_grid(p, tiles)})
    {
        plan[at++] = grid.x;
        plan[at++] = grid.y;
        plan[at++] = grid.z;
        plan[at++] = grid.threads;
    }
    plan[at++] = static_cast<int>(tiles);
    plan[at++] = sizeof(Problem);
    return static_cast<int64_t>(bytes);
}

// Tensors are 16-byte aligned and their outputs poisoned by the caller. Returns how many columns
// were multiplied, summed over supports and layers, or -1 where the kernels broke a rule.
extern "C" int64_t hsnet_run(int32_t const* sizes, int half, int tiles, unsigned seed, void const* query,
    void const* support, void* full, void* pruned)
{
    Problem p = problem_of(sizes);
    std::mt19937 random(seed);
    emulator::error = nullptr;
    size_t const element = half != 0 ? 2 : 4;
    size_t const bytes = hsnet::lay_out(p, element, nullptr);
    std::vector<unsigned char> workspace(bytes + 256, 0xff); // NaN, and flags that are not 0
    auto const start = (reinterpret_cast<uintptr_t>(workspace.data()) + 255) / 256 * 256;
    hsnet::lay_out(p, element, reinterpret_cast<void*>(start));
    p.query = query;
    p.support = support;
    p.full = full;
    p.pruned = pruned;
    run(half != 0 ? hsnet_prepare_f16 : hsnet_prepare_f32, p, hsnet::prepare_grid(p, element), random);
    run(half != 0 ? hsnet_gather_f16 : hsnet_gather_f32, p, hsnet::gather_grid(p, element), random);
    auto const form = static_cast<hsnet::Tiles>(tiles);
    run(correlate_kernel(half != 0, form), p, hsnet::correlate_grid(p, form), random);
    int64_t columns = 0;
    for (int i = 0; i < p.supports * p.layers; ++i)
    {
        columns += p.counts[i];
    }
    return emulator::error == nullptr ? columns : -1;
}

extern "C" char const* hsnet_error()
{
    return emulator::error == nullptr ? "" : emulator::error;
}
