// Accesses whose cost is known, to check the counters with. One warp each.
#include "counting.h"

namespace
{

struct alignas(16) Vector
{
    float values[4];
};

template <int pattern>
void access(Problem const p)
{
    alignas(128) __shared__ float shared[2048];
    auto* const memory = static_cast<float*>(p.full);
    auto* const halves = static_cast<__half*>(p.full);
    auto const lane = static_cast<int>(threadIdx.x);
    if (pattern == 0)
    {
        memory[lane] = 1.0F;
    }
    if (pattern == 1)
    {
        uint32_t pair;
        std::memcpy(&pair, halves + 1 + 2 * lane, 4);
        shared[lane] = static_cast<float>(pair);
    }
    if (pattern == 2)
    {
        memory[8 * lane] = 1.0F;
    }
    if (pattern == 3)
    {
        shared[32 * lane] = 1.0F;
    }
    if (pattern == 4)
    {
        reinterpret_cast<Vector*>(shared)[lane] = Vector{};
    }
    if (pattern == 5)
    {
        shared[lane] = 1.0F;
        memory[lane] = shared[7];
    }
    if (pattern == 6)
    {
        int const rounds = lane < 16 ? 2 : 1;
        for (int i = 0; i < rounds; ++i)
        {
            if (lane < 8 && i == 0)
            {
                memory[lane] = 1.0F;
            }
            else
            {
                memory[lane + 64 * i] = 2.0F;
            }
        }
    }
    if (pattern == 7)
    {
        uint32_t to[4];
        hsnet::load_matrices(to, shared + 32 * lane);
    }
    if (pattern == 8)
    {
        hsnet::copy_async(shared + 4 * lane, memory + 4 + 4 * lane, true);
    }
}

} // namespace

// memory: 16 KiB, 256-byte aligned. counts: [kKinds][5].
extern "C" void hsnet_count_pattern(int pattern, void* memory, int64_t* counts)
{
    void (*const kernels[])(Problem) = {access<0>, access<1>, access<2>, access<3>, access<4>, access<5>,
        access<6>, access<7>, access<8>};
    Problem p{};
    p.full = memory;
    counters::set_global(0, memory, 4096 * sizeof(float));
    ignore_emulator();
    count(kernels[pattern], p, {1, 1, 1, 32}, 1, 0, counts);
}
