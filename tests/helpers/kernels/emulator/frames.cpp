// The frame kernels (FRAMES names runtime/frames/kernels/frames.cu, or an altered copy) as a
// shared library with one entry: launch a kernel by its name, as the driver does. They share no
// memory and meet at no barrier, so their threads run to the end one after another, in any order.
#include "emulator.h"

#include <csignal>

Dim threadIdx, blockIdx;

namespace
{

Dim blockDim;

// nvcc fuses a product and a sum into one rounding unless these are written, and so may the
// compiler here: what passes through a volatile is rounded first.
float rounded(float value)
{
    float volatile kept = value;
    return kept;
}
float __fmul_rn(float a, float b)
{
    return rounded(a * b);
}
float __fadd_rn(float a, float b)
{
    return rounded(rounded(a) + rounded(b));
}
float __fsub_rn(float a, float b)
{
    return rounded(rounded(a) - rounded(b));
}
int atomicAdd(int* at, int value)
{
    int const before = *at;
    *at += value;
    return before;
}
int atomicMax(int* at, int value)
{
    int const before = *at;
    *at = max(before, value);
    return before;
}
int __float_as_int(float value)
{
    int bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}
float __int_as_float(int bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}
using std::isfinite;

} // namespace

#include FRAMES

// Stands for the kernel of the GPU check that only passes time; no CPU runs its PTX.
extern "C" void hsnet_spin(uint64_t) {}

namespace
{

struct Kernel
{
    char const* name;
    size_t size; // of its argument
    std::function<void(void const*)> body;
};

template <class Argument>
Kernel entry(char const* name, void (*kernel)(Argument))
{
    return {name, sizeof(Argument), [kernel](void const* bytes) {
                Argument argument;
                std::memcpy(&argument, bytes, sizeof(argument));
                kernel(argument);
            }};
}

Kernel const kernels[] = {
    entry("hsnet_prepare_f32", hsnet_prepare_f32), entry("hsnet_prepare_f16", hsnet_prepare_f16),
    entry("hsnet_vote_f32", hsnet_vote_f32), entry("hsnet_vote_f16", hsnet_vote_f16),
    entry("hsnet_likeness_f32", hsnet_likeness_f32), entry("hsnet_likeness_f16", hsnet_likeness_f16),
    entry("hsnet_guide_f32", hsnet_guide_f32), entry("hsnet_guide_f16", hsnet_guide_f16),
    entry("hsnet_count_f32", hsnet_count_f32), entry("hsnet_count_f16", hsnet_count_f16),
    entry("hsnet_weigh_f32", hsnet_weigh_f32), entry("hsnet_weigh_f16", hsnet_weigh_f16),
    entry("hsnet_fit", hsnet_fit), entry("hsnet_refine", hsnet_refine), entry("hsnet_settle", hsnet_settle), entry("hsnet_spin", hsnet_spin),
};

Kernel const* find(char const* name)
{
    for (auto const& kernel : kernels)
    {
        if (std::strcmp(kernel.name, name) == 0)
        {
            return &kernel;
        }
    }
    return nullptr;
}

sigjmp_buf before_launch;

void leave(int)
{
    siglongjmp(before_launch, 1);
}

} // namespace

// How many bytes a kernel's argument has; 0 where there is no such kernel.
extern "C" uint64_t emulated_argument_size(char const* name)
{
    auto const* const kernel = find(name);
    return kernel == nullptr ? 0 : kernel->size;
}

// The last block and its last thread come first: nothing may rest on the order of threads. Returns 0,
// or the signal where memory was reached that may not be.
extern "C" int emulated_launch(char const* name, uint32_t const* grid, uint32_t const* block, void const* argument)
{
    auto const& body = find(name)->body;
    struct sigaction stop = {}, before_segv, before_bus;
    stop.sa_handler = leave;
    sigaction(SIGSEGV, &stop, &before_segv);
    sigaction(SIGBUS, &stop, &before_bus);
    auto const restore = [&] {
        sigaction(SIGSEGV, &before_segv, nullptr);
        sigaction(SIGBUS, &before_bus, nullptr);
    };
    if (sigsetjmp(before_launch, 1) != 0)
    {
        restore();
        return SIGSEGV;
    }
    blockDim = {block[0], block[1], block[2]};
    for (unsigned by = grid[1]; by-- > 0;)
    for (unsigned bx = grid[0]; bx-- > 0;)
    for (unsigned ty = block[1]; ty-- > 0;)
    for (unsigned tx = block[0]; tx-- > 0;)
    {
        blockIdx = {bx, by, 0};
        threadIdx = {tx, ty, 0};
        body(argument);
    }
    restore();
    return 0;
}
