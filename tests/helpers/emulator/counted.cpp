// The op with its memory accesses counted. Compiled with the instrumentation; see counters.h.
#include "counting.h"

// As hsnet_run, but nothing is multiplied. Of kernel k every every[k]-th block is counted; the last
// kernel's other blocks are not run.
// counts: [3 kernels][kKinds][5]. Returns -1 where an access lies beside a tensor.
extern "C" int hsnet_count(int32_t const* sizes, int half, int tiles, int64_t const* every, void const* query,
    void const* support, void* full, void* pruned, int64_t* counts)
{
    Problem p = problem_of(sizes);
    emulator::error = nullptr;
    size_t const element = half != 0 ? 2 : 4;
    size_t const bytes = hsnet::lay_out(p, element, nullptr);
    std::vector<unsigned char> workspace(bytes + 1024, 0xff); // with room around it
    auto const start = (reinterpret_cast<uintptr_t>(workspace.data()) + 511) / 256 * 256;
    hsnet::lay_out(p, element, reinterpret_cast<void*>(start));
    p.query = query;
    p.support = support;
    p.full = full;
    p.pruned = pruned;
    size_t const nq = static_cast<size_t>(p.query_h) * p.query_w;
    size_t const ns = static_cast<size_t>(p.support_h) * p.support_w;
    size_t const kept = static_cast<size_t>(hsnet::ceil_div(p.support_h, p.stride) * hsnet::ceil_div(p.support_w, p.stride));
    size_t const line = static_cast<size_t>(p.layers) * element;
    counters::set_global(0, query, line * p.batch * p.channels * nq);
    counters::set_global(1, support, line * p.supports * p.channels * ns);
    counters::set_global(2, full, line * p.batch * p.supports * nq * ns);
    counters::set_global(3, pruned, line * p.batch * p.supports * kept * nq);
    counters::set_global(4, reinterpret_cast<void const*>(start), bytes);
    ignore_emulator();
    // What prepare finds out about the query moves no access of the other kernels.
    int64_t const query_blocks = hsnet::window_count(static_cast<int64_t>(nq), element) * p.batch * p.layers
        * hsnet::channel_parts(p);
    constexpr int kEach = counters::kKinds * 5;
    count(half != 0 ? hsnet_prepare_f16 : hsnet_prepare_f32, p, hsnet::prepare_grid(p, element), every[0], query_blocks, counts);
    count(half != 0 ? hsnet_gather_f16 : hsnet_gather_f32, p, hsnet::gather_grid(p, element), every[1], 0, counts + kEach);
    auto const form = static_cast<hsnet::Tiles>(tiles);
    count(correlate_kernel(half != 0, form), p, hsnet::correlate_grid(p, form), every[2], INT64_MAX, counts + 2 * kEach);
    return emulator::error == nullptr ? 0 : -1;
}
