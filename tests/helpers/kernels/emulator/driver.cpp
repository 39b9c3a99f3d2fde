// As much of the CUDA driver as the Python side calls, over the emulated kernels: memory is the
// host's, a launch runs at once. Calls out of order are errors, as they are on a GPU.
#include "emulator.cpp"

#include <cstdlib>
#include <map>
#include <string>

namespace
{

using Kernel = void (*)(Problem);

struct Entry
{
    char const* name;
    Kernel kernel;
};

Entry const kEntries[] = {
    {"hsnet_correlate_large_f16", hsnet_correlate_large_f16},
    {"hsnet_correlate_large_f32", hsnet_correlate_large_f32},
    {"hsnet_correlate_small_f16", hsnet_correlate_small_f16},
    {"hsnet_correlate_small_f32", hsnet_correlate_small_f32},
    {"hsnet_correlate_split_f16", hsnet_correlate_split_f16},
    {"hsnet_correlate_split_f32", hsnet_correlate_split_f32},
};

int primary = 0; // its address is the primary context
void* current = nullptr;
bool ready = false;
int loads = 0;
std::map<void*, size_t> memory;

constexpr int kInvalidValue = 1;
constexpr int kNotInitialized = 3;
constexpr int kNoBinary = 209;
constexpr int kNotFound = 500;

// Whether [pointer, pointer + size) lies in one allocation.
bool owned(void const* pointer, size_t size)
{
    auto const* start = static_cast<char const*>(pointer);
    for (auto const& [base, length] : memory)
    {
        auto const* from = static_cast<char const*>(base);
        if (start >= from && start + size <= from + length)
        {
            return true;
        }
    }
    return false;
}

} // namespace

extern "C"
{

int cuInit(unsigned)
{
    ready = true;
    return 0;
}
int cuDeviceGet(int* device, int)
{
    *device = 0;
    return ready ? 0 : kNotInitialized;
}
int cuDevicePrimaryCtxRetain(void** context, int)
{
    *context = &primary;
    return ready ? 0 : kNotInitialized;
}
int cuDevicePrimaryCtxRelease_v2(int)
{
    return 0;
}
int cuCtxPushCurrent_v2(void* context)
{
    current = context;
    return 0;
}
int cuCtxPopCurrent_v2(void** context)
{
    *context = current;
    current = nullptr;
    return 0;
}
int cuCtxGetCurrent(void** context)
{
    *context = current;
    return 0;
}
int cuCtxGetDevice(int* device)
{
    *device = 0;
    return 0;
}
int cuCtxSynchronize()
{
    return emulator::error == nullptr ? 0 : 700;
}
int cuDeviceGetAttribute(int* value, int attribute, int)
{
    *value = 20;
    return attribute == 16 ? 0 : kInvalidValue;
}
int cuGetErrorString(int, char const** text)
{
    *text = "an error of the emulated driver";
    return 0;
}
int cuModuleLoadData(void** module, char const* image)
{
    ++loads;
    *module = &loads;
    return std::string(image) == "kernels" ? 0 : kNoBinary;
}
int cuModuleGetFunction(void const** function, void*, char const* name)
{
    for (auto const& entry : kEntries)
    {
        if (std::string(entry.name) == name)
        {
            *function = &entry;
            return 0;
        }
    }
    return kNotFound;
}
int cuLaunchKernel(void const* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty,
    unsigned tz, unsigned shared, void* stream, void** parameters, void** extra)
{
    if (ty != 1 || tz != 1 || shared != 0 || extra != nullptr || stream != nullptr)
    {
        return kInvalidValue;
    }
    std::mt19937 random(x + y + z);
    run(static_cast<Entry const*>(function)->kernel, *static_cast<Problem const*>(parameters[0]),
        {x, y, z, threads}, random);
    return 0;
}
int cuMemAlloc_v2(void** pointer, size_t size)
{
    *pointer = std::aligned_alloc(256, (size + 255) / 256 * 256);
    memory[*pointer] = size;
    return 0;
}
int cuMemFree_v2(void* pointer)
{
    std::free(pointer);
    return memory.erase(pointer) == 1 ? 0 : kInvalidValue;
}
int cuMemsetD8_v2(void* pointer, unsigned char value, size_t size)
{
    if (!owned(pointer, size))
    {
        return kInvalidValue;
    }
    std::memset(pointer, value, size);
    return 0;
}
int cuMemcpyHtoD_v2(void* target, void const* source, size_t size)
{
    if (!owned(target, size))
    {
        return kInvalidValue;
    }
    std::memcpy(target, source, size);
    return 0;
}
int cuMemcpyDtoH_v2(void* target, void const* source, size_t size)
{
    if (!owned(source, size))
    {
        return kInvalidValue;
    }
    std::memcpy(target, source, size);
    return 0;
}
int emulated_loads()
{
    return loads;
}
int emulated_allocations()
{
    return static_cast<int>(memory.size());
}

} // extern "C"
