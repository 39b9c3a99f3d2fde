// Runs the CUDA kernels of trt_plugins/kernels on a CPU, thread by thread, so that their indexes,
// fragments, barriers and stores can be judged where there is no GPU.
//
// Every thread of a block is a fiber; a barrier or a warp-wide instruction hands over to the next.
// What a GPU may do late is done late: an asynchronous copy lands when its group is waited for. The
// fibers' order changes with a seed, so that a missing barrier shows. Outputs and shared memory
// start poisoned. It stands in for ptx.cuh (same guard). It says nothing about speed.
#ifndef HSNET_PTX_CUH
#define HSNET_PTX_CUH

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __host__
#ifdef HSNET_COUNTS // see counters.h; a copy of a function would be another place in the program
#include "counters.h"
#define __forceinline__ inline __attribute__((always_inline))
#define HSNET_INSTRUCTION __attribute__((noinline))
#else
#define __forceinline__ inline
#define HSNET_INSTRUCTION
#endif
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__

using std::max;
using std::min;

struct __half
{
    _Float16 value;
};
inline float __half2float(__half h)
{
    return static_cast<float>(h.value);
}
inline __half __float2half_rn(float f)
{
    return {static_cast<_Float16>(f)};
}

inline __half __ushort_as_half(unsigned short bits)
{
    __half h;
    std::memcpy(&h, &bits, 2);
    return h;
}
inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
struct alignas(16) uint4
{
    unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
// The low word of high:low, moved right by up to 31 bits.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits)
{
    return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (bits & 31));
}

struct Dim
{
    unsigned x, y, z;
};
extern Dim threadIdx, blockIdx, gridDim;

namespace emulator
{

struct Copy
{
    void* target;
    unsigned char bytes[16];
};

struct Fiber
{
    ucontext_t context; // of its first step; from then on it jumps, which calls no kernel
    jmp_buf jump;
    bool started = false;
    std::vector<char> stack;
    bool done = false;
    unsigned index = 0;
    std::deque<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Barrier
{
    unsigned arrived = 0;
    unsigned generation = 0;
    int vote = 0;
    int result = 0;
};

// What the 32 lanes of a warp show each other.
struct Warp
{
    Barrier barrier;
    void const* address[32];
    uint32_t a[32][4];
    uint32_t b[32][2];
    unsigned ballot;
};

struct Block
{
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Barrier barrier;
    jmp_buf home;
    unsigned current = 0;
    std::function<void()> body;
};
extern Block* block;
extern char const* error; // the latest, null where there was none

inline Fiber& self()
{
    return block->fibers[block->current];
}
inline void hand_over()
{
#ifdef HSNET_COUNTS
    counters::set_lane(counters::kNobody);
#endif
    if (_setjmp(self().jump) == 0)
    {
        _longjmp(block->home, 1);
    }
}
__attribute__((noinline)) inline void resume(Fiber& fiber)
{
    if (_setjmp(block->home) != 0)
    {
        return;
    }
    if (fiber.started)
    {
        _longjmp(fiber.jump, 1);
    }
    fiber.started = true;
    setcontext(&fiber.context);
}
inline void wait_for_others(Barrier& barrier, unsigned size)
{
    unsigned const generation = barrier.generation;
    if (++barrier.arrived == size)
    {
        barrier.arrived = 0;
        barrier.result = barrier.vote;
        barrier.vote = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == generation)
    {
        hand_over();
    }
}
inline void wait_at(Barrier& barrier, unsigned size)
{
#ifdef HSNET_COUNTS // how long a thread waits here is no part of its trace
    counters::Quiet const quiet;
#endif
    wait_for_others(barrier, size);
}
inline Warp& warp()
{
    return block->warps[self().index / 32];
}
inline unsigned lane()
{
    return self().index % 32;
}
inline void warp_wait()
{
    wait_at(warp().barrier, 32);
}

} // namespace emulator

inline int __syncthreads_or(int vote)
{
    auto& barrier = emulator::block->barrier;
    barrier.vote |= vote != 0 ? 1 : 0;
    emulator::wait_at(barrier, static_cast<unsigned>(emulator::block->fibers.size()));
    return barrier.result;
}
inline void __syncthreads()
{
    __syncthreads_or(0);
}
inline unsigned __ballot_sync(unsigned, bool vote)
{
    auto& warp = emulator::warp();
    warp.a[emulator::lane()][0] = vote ? 1U : 0U;
    emulator::warp_wait();
    unsigned mask = 0;
    for (unsigned i = 0; i < 32; ++i)
    {
        mask |= warp.a[i][0] << i;
    }
    emulator::warp_wait();
    return mask;
}
inline unsigned __shfl_sync(unsigned, unsigned value, int from)
{
    auto& warp = emulator::warp();
    warp.a[emulator::lane()][0] = value;
    emulator::warp_wait();
    unsigned const taken = warp.a[from & 31][0];
    emulator::warp_wait();
    return taken;
}
inline int __shfl_sync(unsigned mask, int value, int from)
{
    return static_cast<int>(__shfl_sync(mask, static_cast<unsigned>(value), from));
}
inline void __syncwarp()
{
    emulator::warp_wait();
}
inline int __popc(unsigned value)
{
    return __builtin_popcount(value);
}
inline float __uint_as_float(uint32_t bits)
{
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

namespace hsnet
{

HSNET_INSTRUCTION inline void copy_async(void* target, void const* source, bool valid)
{
#ifdef HSNET_COUNTS
    counters::record(counters::kCopyAsync, __builtin_return_address(0), valid ? source : nullptr, 16, target);
    counters::Quiet const quiet;
#endif
    if (reinterpret_cast<uintptr_t>(target) % 16 != 0
        || (valid && reinterpret_cast<uintptr_t>(source) % 16 != 0))
    {
        emulator::error = "cp.async at an address that is not a multiple of 16";
        return;
    }
    emulator::Copy copy{target, {}};
    if (valid)
    {
        std::memcpy(copy.bytes, source, 16);
    }
#if __CUDA_ARCH__ >= 800
    emulator::self().open.push_back(copy);
#else
    std::memcpy(target, copy.bytes, 16);
#endif
}
inline void copy_commit()
{
    auto& fiber = emulator::self();
    fiber.groups.push_back(std::move(fiber.open));
    fiber.open.clear();
}
template <int pending>
inline void copy_wait()
{
#ifdef HSNET_COUNTS // the copies' landing was counted when they were started
    counters::Quiet const quiet;
#endif
    auto& groups = emulator::self().groups;
    while (groups.size() > pending)
    {
        for (auto const& copy : groups.front())
        {
            std::memcpy(copy.target, copy.bytes, 16);
        }
        groups.pop_front();
    }
}

// PTX ISA, ldmatrix with .trans: thread T receives elements (2 * (T % 4) + {0, 1}, T / 4).
HSNET_INSTRUCTION inline void load_matrices(uint32_t (&to)[4], void const* row)
{
#ifdef HSNET_COUNTS // counts need no values
    counters::record(counters::kLoadMatrices, __builtin_return_address(0), row, 16, nullptr);
    std::fill(to, to + 4, 0U);
    return;
#endif
    auto& warp = emulator::warp();
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    {
        emulator::error = "ldmatrix at an address that is not a multiple of 16";
    }
    unsigned const lane = emulator::lane();
    warp.address[lane] = row;
    emulator::warp_wait();
    for (unsigned matrix = 0; matrix < 4; ++matrix)
    {
        uint16_t pair[2];
        for (unsigned e = 0; e < 2; ++e)
        {
            auto const* line = static_cast<uint16_t const*>(warp.address[matrix * 8 + 2 * (lane % 4) + e]);
            pair[e] = line[lane / 4];
        }
        to[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
    emulator::warp_wait();
}

inline float half_of(uint32_t bits, unsigned part)
{
    uint16_t const word = static_cast<uint16_t>(bits >> (16 * part));
    _Float16 value;
    std::memcpy(&value, &word, 2);
    return static_cast<float>(value);
}

// Lanes show their fragments; every lane then sums its own four elements of c.
template <class Product>
inline void multiply(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1, Product product)
{
#ifdef HSNET_COUNTS
    return;
#endif
    auto& warp = emulator::warp();
    unsigned const lane = emulator::lane();
    std::copy(a, a + 4, warp.a[lane]);
    warp.b[lane][0] = b0;
    warp.b[lane][1] = b1;
    emulator::warp_wait();
    for (unsigned i = 0; i < 4; ++i)
    {
        c[i] += product(warp, lane / 4 + (i / 2) * 8, 2 * (lane % 4) + i % 2);
    }
    emulator::warp_wait();
}

// mma.m16n8k16: A register r of lane T holds row T / 4 + 8 * (r % 2), columns
// 2 * (T % 4) + 8 * (r / 2) + {0, 1}; B register r holds rows 2 * (T % 4) + 8 * r + {0, 1}, column T / 4.
inline void multiply_half(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1)
{
    multiply(c, a, b0, b1, [](emulator::Warp const& warp, unsigned row, unsigned column) {
        float sum = 0;
        for (unsigned k = 0; k < 16; ++k)
        {
            unsigned const in_group = k % 8 / 2;
            uint32_t const x = warp.a[row % 8 * 4 + in_group][row / 8 + k / 8 * 2];
            uint32_t const y = warp.b[column * 4 + in_group][k / 8];
            sum += half_of(x, k % 2) * half_of(y, k % 2);
        }
        return sum;
    });
}

// mma.m16n8k8 of TF32: A register r holds row T / 4 + 8 * (r % 2), column T % 4 + 4 * (r / 2);
// B register r holds row T % 4 + 4 * r, column T / 4. Bits beyond TF32 are not looked at.
inline void multiply_tf32(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1)
{
    multiply(c, a, b0, b1, [](emulator::Warp const& warp, unsigned row, unsigned column) {
        float sum = 0;
        for (unsigned k = 0; k < 8; ++k)
        {
            uint32_t const x = warp.a[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
            uint32_t const y = warp.b[column * 4 + k % 4][k / 4];
            sum += __uint_as_float(x & 0xffffe000U) * __uint_as_float(y & 0xffffe000U);
        }
        return sum;
    });
}

} // namespace hsnet

#endif
