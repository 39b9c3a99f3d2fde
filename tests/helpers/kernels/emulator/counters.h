// What the kernels' memory accesses cost, counted warp instruction by warp instruction.
//
// Built with -fsanitize=thread and -fsanitize-coverage=trace-pc, the compiler calls counters.cpp at
// every memory access and every stretch of code, with its place in the program. When a block has
// ended, the 32 traces of each warp are laid over each other as a GPU runs them: the lanes at the
// earliest place go first, all lanes at one place go together.
//
// Widths are those of the C++ source. nvcc may split an access of an aggregate into its members (it
// keeps uint4 and uint2 whole), so kernels that are judged here move vector types.
#ifndef HSNET_COUNTERS_H
#define HSNET_COUNTERS_H

#include <cstddef>
#include <cstdint>

namespace counters
{

enum Kind
{
    kPlace, // no access: a stretch of code begins
    kGlobalLoad,
    kGlobalStore,
    kSharedLoad,
    kSharedStore,
    kCopyAsync,    // 16 bytes, from `address` (nothing where it is 0) to `target`
    kLoadMatrices, // ldmatrix: 16 bytes a lane
    kKinds
};

// Of an asynchronous copy, two neighbouring lanes share a sector and others do not: that is what the
// profiler's counts of rows between two sectors come to.
//
// Of one kind of access. Sectors are 32 bytes of global memory; a wavefront is what shared memory
// answers in one clock: 32 banks of 4 bytes. Needed sectors hold the bytes asked for, had they lain
// side by side; needed wavefronts are one per group of lanes that together ask for 128 bytes.
struct Totals
{
    int64_t instructions;
    int64_t sectors;
    int64_t needed_sectors;
    int64_t wavefronts;
    int64_t needed_wavefronts;
};

struct Lines; // the traces of a block

// Memory whose accesses count as global; the rest is local, or shared (static variables). Whoever
// touches the 128 bytes before or behind it has left the tensor.
void set_global(int part, void const* start, size_t bytes);
bool left_a_tensor();
void ignore(void const* start, size_t bytes); // of the static variables

// Count every `every`-th block from now on, and run the others only from block `needed` on.
void start(int64_t every, int64_t needed);
bool begin_block(unsigned threads); // whether the block is to be run
void set_lane(unsigned thread);     // whose accesses follow
unsigned current_lane();
void end_block();
Totals const* totals(); // [kKinds], since start

constexpr unsigned kNobody = ~0U;

// The emulator's own accesses are nobody's.
struct Quiet
{
    unsigned lane = current_lane();
    Quiet()
    {
        set_lane(kNobody);
    }
    ~Quiet()
    {
        set_lane(lane);
    }
};

void record(Kind kind, void const* place, void const* address, unsigned bytes, void const* target);

} // namespace counters

#endif
