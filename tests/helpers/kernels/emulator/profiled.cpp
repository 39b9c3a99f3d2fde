// The kernels of profiled.cuh, counted. Compiled with the instrumentation; see counters.h.
#include "counting.h"

#include "profiled.cuh"

static profiled::Problem of_call; // what the kernels are given

// sizes as in hsnet_plan, of half; every: of each kernel, every which block is counted; workspace:
// large enough for everything, 256-byte aligned. counts: [2 kernels][kKinds][5].
extern "C" int hsnet_count_profiled(int32_t const* sizes, int64_t const* every, void const* query,
    void const* support, void* workspace, int64_t bytes, int64_t* counts)
{
    Problem const of_today = problem_of(sizes);
    profiled::Problem& p = of_call;
    p = {};
    p.batch = of_today.batch;
    p.supports = of_today.supports;
    p.layers = of_today.layers;
    p.channels = of_today.channels;
    p.query_h = of_today.query_h;
    p.query_w = of_today.query_w;
    p.support_h = of_today.support_h;
    p.support_w = of_today.support_w;
    int64_t const nq = static_cast<int64_t>(p.query_h) * p.query_w;
    int64_t const ns = static_cast<int64_t>(p.support_h) * p.support_w;
    p.query = query;
    p.support = support;
    p.query_pitch = static_cast<int32_t>(hsnet::round_up(nq, 8));
    p.support_pitch = static_cast<int32_t>(hsnet::round_up(ns, 8));
    int64_t const query_rows = static_cast<int64_t>(p.batch) * p.layers;
    int64_t const support_rows = static_cast<int64_t>(p.supports) * p.layers;
    char* free_from = static_cast<char*>(workspace);
    auto take = [&](int64_t size) {
        char* const part = free_from;
        free_from += hsnet::round_up(size, 256);
        return static_cast<void*>(part);
    };
    p.packed_query = take(query_rows * p.channels * p.query_pitch * 2);
    p.packed_support = take(support_rows * p.channels * p.support_pitch * 2);
    p.squares = static_cast<float*>(take(query_rows * nq * 4));
    p.positions = static_cast<int32_t*>(take(support_rows * ns * 4));
    p.counts = static_cast<int32_t*>(take(support_rows * 4));
    p.flags = static_cast<uint8_t*>(take(support_rows * ns));
    if (free_from > static_cast<char*>(workspace) + bytes)
    {
        return -1;
    }
    counters::set_global(0, query, static_cast<size_t>(query_rows * p.channels * nq * 2));
    counters::set_global(1, support, static_cast<size_t>(support_rows * p.channels * ns * 2));
    counters::set_global(2, workspace, static_cast<size_t>(bytes));
    ignore_emulator();
    counters::ignore(&of_call, sizeof of_call);
    int64_t const blocks = hsnet::ceil_div(p.query_pitch, profiled::kColumnsPerBlock) * query_rows
        + hsnet::ceil_div(p.support_pitch, profiled::kColumnsPerBlock) * support_rows;
    constexpr unsigned kThreads = profiled::kColumnsPerBlock * profiled::kRowGroups;
    count([](Problem const) { profiled::prepare<__half>(of_call); }, of_today,
        {static_cast<unsigned>(blocks), 1, 1, kThreads}, every[0], 0, counts);
    auto const groups = static_cast<unsigned>(hsnet::ceil_div(p.channels, profiled::kGatherRows));
    count([](Problem const) { profiled::gather<__half>(of_call); }, of_today,
        {groups, static_cast<unsigned>(p.layers), static_cast<unsigned>(p.supports), profiled::kGatherThreads},
        every[1], 0, counts + counters::kKinds * 5);
    return emulator::error == nullptr ? 0 : -1;
}
