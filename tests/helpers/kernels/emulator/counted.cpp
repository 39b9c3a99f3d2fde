// The op with its memory accesses counted. Compiled with the instrumentation; see counters.h.
#include "counting.h"

// As hsnet_run, but nothing is multiplied, and only every `every`-th block is run, and counted.
// counts: [kKinds][5]. Returns -1 where an access lies beside a tensor.
extern "C" int hsnet_count(int32_t const* sizes, int half, int tiles, int64_t every, void* const* tensors, int64_t* counts)
{
    Problem const p = problem_of(sizes, tensors);
    emulator::error = nullptr;
    size_t const element = half != 0 ? 2 : 4;
    size_t const nq = static_cast<size_t>(p.query_h) * p.query_w;
    size_t const ns = static_cast<size_t>(p.support_h) * p.support_w;
    size_t const kept = static_cast<size_t>(hsnet::ceil_div(p.support_h, p.stride) * hsnet::ceil_div(p.support_w, p.stride));
    size_t const line = static_cast<size_t>(p.layers) * element;
    size_t const bytes[] = {line * p.batch * p.channels * p.query_row, line * p.supports * p.channels * p.column_row,
        sizeof(int32_t) * p.supports * p.column_row, sizeof(int32_t) * p.supports,
        line * p.batch * p.supports * nq * ns, line * p.batch * p.supports * kept * nq};
    for (int part = 0; part < 6; ++part)
    {
        counters::set_global(part, tensors[part], bytes[part]);
    }
    ignore_emulator();
    auto const form = static_cast<hsnet::Tiles>(tiles);
    count(correlate_kernel(half != 0, form), p, hsnet::correlate_grid(p, form, element), every, INT64_MAX, counts);
    return emulator::error == nullptr ? 0 : -1;
}
