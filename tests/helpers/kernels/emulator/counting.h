// Runs a kernel with its memory accesses counted; for counted.cpp and profiled.cpp.
#ifndef HSNET_COUNTING_H
#define HSNET_COUNTING_H

#include "emulator.cpp"

namespace
{

// One kernel's totals go to `counts`, [kKinds][5].
void count(void (*kernel)(Problem), Problem const& p, hsnet::Grid grid, int64_t every, int64_t needed, int64_t* counts)
{
    std::mt19937 random(0);
    counters::start(every, needed);
    run(kernel, p, grid, random);
    if (counters::left_a_tensor())
    {
        emulator::error = "an access outside of the tensors";
    }
    std::memcpy(counts, counters::totals(), sizeof(counters::Totals) * counters::kKinds);
}

// The emulator's own static variables are not the kernels' shared memory.
void ignore_emulator()
{
    counters::ignore(&threadIdx, sizeof threadIdx);
    counters::ignore(&blockIdx, sizeof blockIdx);
    counters::ignore(&gridDim, sizeof gridDim);
    counters::ignore(&emulator::block, sizeof emulator::block);
    counters::ignore(&emulator::error, sizeof emulator::error);
}

} // namespace

#endif
