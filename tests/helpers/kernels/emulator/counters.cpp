// Compiled without the instrumentation that calls it. See counters.h.
#include "counters.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

// The static variables of this library, by names that the linker gives.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[];
extern "C" __attribute__((visibility("hidden"))) char _end[];

namespace
{

using namespace counters;

struct Event
{
    uintptr_t place;
    uintptr_t address;
    uintptr_t target;
    uint16_t bytes;
    uint16_t kind;
};
using Range = std::pair<uintptr_t, uintptr_t>;

constexpr unsigned kLanes = 32;
constexpr uintptr_t kSector = 32;
constexpr uintptr_t kGuard = 128;
constexpr unsigned kPair = 2;

std::vector<Range> global_ranges(8, Range{0, 0});
std::vector<Range> ignored;
std::vector<std::vector<Event>> traces;
Totals sums[kKinds];
int64_t every = 1;
int64_t blocks = 0;
int64_t needed = 0;
bool counting = false;
bool outside = false;
unsigned lane = kNobody;

bool inside(std::vector<Range> const& ranges, uintptr_t at)
{
    return std::any_of(ranges.begin(), ranges.end(), [&](Range r) { return at >= r.first && at < r.second; });
}

// Notes an access that does not lie within one tensor, but beside one.
void guard(uintptr_t at, unsigned bytes)
{
    auto const near = [&](Range r) { return at + bytes > r.first - kGuard && at < r.second + kGuard; };
    auto const whole = [&](Range r) { return at >= r.first && at + bytes <= r.second; };
    outside |= std::any_of(global_ranges.begin(), global_ranges.end(), [&](Range r) { return r.second != 0 && near(r); })
        && std::none_of(global_ranges.begin(), global_ranges.end(), whole);
}

void access(bool store, void* pointer, unsigned bytes, void* place)
{
    if (!counting || lane == kNobody)
    {
        return;
    }
    auto const at = reinterpret_cast<uintptr_t>(pointer);
    guard(at, bytes);
    if (inside(global_ranges, at))
    {
        record(store ? kGlobalStore : kGlobalLoad, place, pointer, bytes, nullptr);
    }
    else if (at >= reinterpret_cast<uintptr_t>(__bss_start) && at < reinterpret_cast<uintptr_t>(_end)
        && !inside(ignored, at))
    {
        record(store ? kSharedStore : kSharedLoad, place, pointer, bytes, nullptr);
    }
}

// Lanes of one instruction that go to global memory, lane by lane, empty where it takes no part.
// `together` lanes that follow each other share the sectors that they ask for.
void count_sectors(Totals& sum, std::vector<Range> const& spans, unsigned together)
{
    std::set<std::pair<uintptr_t, size_t>> sectors;
    std::set<uintptr_t> bytes; // in pieces of 2, the smallest element but for flags
    bool odd = false;
    for (size_t i = 0; i < spans.size(); ++i)
    {
        auto const [first, last] = spans[i];
        for (uintptr_t s = first / kSector; s * kSector < last; ++s)
        {
            sectors.insert({s, i / together});
        }
        odd |= last - first == 1;
    }
    uintptr_t const piece = odd ? 1 : 2;
    for (auto const& [first, last] : spans)
    {
        for (uintptr_t b = first / piece; b < last / piece; ++b)
        {
            bytes.insert(b);
        }
    }
    sum.sectors += static_cast<int64_t>(sectors.size());
    sum.needed_sectors += static_cast<int64_t>((bytes.size() * piece + kSector - 1) / kSector);
}

// Lanes of one instruction that go to shared memory; lane by lane, empty where it takes no part.
void count_wavefronts(Totals& sum, std::vector<Range> const& lanes, unsigned bytes)
{
    unsigned const together = std::min(kLanes, 128 / std::max(bytes, 4U));
    for (unsigned first = 0; first < kLanes; first += together)
    {
        std::set<uintptr_t> words;
        for (unsigned i = first; i < first + together; ++i)
        {
            for (uintptr_t word = lanes[i].first / 4; word * 4 < lanes[i].second; ++word)
            {
                words.insert(word);
            }
        }
        if (words.empty())
        {
            continue;
        }
        int64_t of_bank[32] = {};
        for (uintptr_t word : words)
        {
            ++of_bank[word % 32];
        }
        sum.wavefronts += *std::max_element(of_bank, of_bank + 32);
        sum.needed_wavefronts += 1;
    }
}

void count(std::vector<Event const*> const& lanes)
{
    auto const* any = *std::find_if(lanes.begin(), lanes.end(), [](Event const* e) { return e != nullptr; });
    Totals& sum = sums[any->kind];
    std::vector<Range> near(kLanes, Range{0, 0});
    std::vector<Range> far(kLanes, Range{0, 0});
    for (unsigned i = 0; i < kLanes; ++i)
    {
        auto const* event = lanes[i];
        if (event == nullptr)
        {
            continue;
        }
        Range const span{event->address, event->address + event->bytes};
        if (event->kind == kCopyAsync)
        {
            near[i] = {event->target, event->target + event->bytes};
        }
        if (event->kind == kSharedLoad || event->kind == kSharedStore || event->kind == kLoadMatrices)
        {
            near[i] = span;
        }
        else if (event->address != 0)
        {
            far[i] = span;
        }
    }
    ++sum.instructions;
    count_wavefronts(sum, near, any->bytes);
    count_sectors(sum, far, any->kind == kCopyAsync ? kPair : kLanes);
}

void replay(std::vector<Event> const* lanes)
{
    size_t at[kLanes] = {};
    std::vector<Event const*> together(kLanes);
    while (true)
    {
        uintptr_t next = ~uintptr_t{0};
        for (unsigned i = 0; i < kLanes; ++i)
        {
            if (at[i] < lanes[i].size())
            {
                next = std::min(next, lanes[i][at[i]].place);
            }
        }
        if (next == ~uintptr_t{0})
        {
            return;
        }
        bool accesses = false;
        for (unsigned i = 0; i < kLanes; ++i)
        {
            bool const here = at[i] < lanes[i].size() && lanes[i][at[i]].place == next;
            together[i] = here && lanes[i][at[i]].kind != kPlace ? &lanes[i][at[i]] : nullptr;
            accesses |= together[i] != nullptr;
            at[i] += here ? 1 : 0;
        }
        if (accesses)
        {
            count(together);
        }
    }
}

} // namespace

namespace counters
{

void set_global(int part, void const* start, size_t bytes)
{
    auto const at = reinterpret_cast<uintptr_t>(start);
    if (global_ranges.size() <= static_cast<size_t>(part))
    {
        global_ranges.resize(static_cast<size_t>(part) + 1);
    }
    global_ranges[static_cast<size_t>(part)] = {at, at + bytes};
}
void ignore(void const* start, size_t bytes)
{
    auto const at = reinterpret_cast<uintptr_t>(start);
    ignored.push_back({at, at + bytes});
}
void start(int64_t every_nth, int64_t needed_from)
{
    every = every_nth;
    needed = needed_from;
    blocks = 0;
    outside = false;
    std::fill(sums, sums + kKinds, Totals{});
}
bool left_a_tensor()
{
    return outside;
}
bool begin_block(unsigned threads)
{
    int64_t const index = blocks++;
    counting = index % every == every / 2;
    if (counting)
    {
        traces.resize(threads);
        for (auto& trace : traces)
        {
            trace.clear();
        }
    }
    return counting || index >= needed;
}
void set_lane(unsigned thread)
{
    lane = thread;
}
unsigned current_lane()
{
    return lane;
}
void end_block()
{
    lane = kNobody;
    for (size_t i = 0; counting && i < traces.size(); i += kLanes)
    {
        replay(traces.data() + i);
    }
    counting = false;
}
Totals const* totals()
{
    return sums;
}
void record(Kind kind, void const* place, void const* address, unsigned bytes, void const* target)
{
    if (counting && lane != kNobody)
    {
        if (kind == kCopyAsync && address != nullptr)
        {
            guard(reinterpret_cast<uintptr_t>(address), bytes);
        }
        traces[lane].push_back({reinterpret_cast<uintptr_t>(place), reinterpret_cast<uintptr_t>(address),
            reinterpret_cast<uintptr_t>(target), static_cast<uint16_t>(bytes), static_cast<uint16_t>(kind)});
    }
}

} // namespace counters

extern "C"
{

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(void* at, size_t bytes)
{
    access(false, at, static_cast<unsigned>(bytes), __builtin_return_address(0));
}
void __tsan_write_range(void* at, size_t bytes)
{
    access(true, at, static_cast<unsigned>(bytes), __builtin_return_address(0));
}
void __sanitizer_cov_trace_pc()
{
    record(kPlace, __builtin_return_address(0), nullptr, 0, nullptr);
}

#define HSNET_ACCESSES(BYTES) \
    void __tsan_read##BYTES(void* at) \
    { \
        access(false, at, BYTES, __builtin_return_address(0)); \
    } \
    void __tsan_write##BYTES(void* at) \
    { \
        access(true, at, BYTES, __builtin_return_address(0)); \
    } \
    void __tsan_unaligned_read##BYTES(void* at) \
    { \
        access(false, at, BYTES, __builtin_return_address(0)); \
    } \
    void __tsan_unaligned_write##BYTES(void* at) \
    { \
        access(true, at, BYTES, __builtin_return_address(0)); \
    }
HSNET_ACCESSES(1)
HSNET_ACCESSES(2)
HSNET_ACCESSES(4)
HSNET_ACCESSES(8)
HSNET_ACCESSES(16)

} // extern "C"
