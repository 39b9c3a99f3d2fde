#include "correlation_plugin.h"
#include "launch.h"

#include <sstream>

namespace hsnet
{

using namespace nvinfer1;

namespace
{

constexpr int64_t kMostElements = 2147483647; // TensorRT computes larger tensors wrongly

std::string shape_text(Dims const& dims)
{
    std::ostringstream text;
    text << '[';
    for (int32_t i = 0; i < dims.nbDims; ++i)
    {
        text << (i == 0 ? "" : ", ") << dims.d[i];
    }
    text << ']';
    return text.str();
}

bool reports(cudaError_t error, char const* where) noexcept
{
    if (error == cudaSuccess)
    {
        return false;
    }
    report(std::string(where) + " failed: " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error)
        + (error == cudaErrorNoKernelImageForDevice
                ? "; build the plugin library for this GPU's compute capability (make plugin)"
                : ""));
    return true;
}

Shapes shapes_of(PluginTensorDesc const* in)
{
    return {in[0].dims, in[1].dims, in[2].dims, in[3].dims};
}

} // namespace

CorrelationPlugin::CorrelationPlugin(Attributes const& attributes)
    : attributes_(attributes)
{
    std::ostringstream id;
    id << kName << ' ' << kVersion;
    for (size_t i = 0; i < kAttributes.size(); ++i)
    {
        fields_[i] = PluginField(kAttributes[i], &attributes_[i], PluginFieldType::kINT32, 1);
        id << ' ' << attributes_[i];
    }
    collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
    timing_cache_id_ = id.str();
}

IPluginCapability* CorrelationPlugin::getCapabilityInterface(PluginCapabilityType type) noexcept
{
    switch (type)
    {
    case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

IPluginV3* CorrelationPlugin::clone() noexcept
{
    try
    {
        return new CorrelationPlugin(attributes_);
    }
    catch (std::exception const& error)
    {
        report(std::string("cloning failed: ") + error.what());
        return nullptr;
    }
}

AsciiChar const* CorrelationPlugin::getPluginName() const noexcept
{
    return kName;
}
AsciiChar const* CorrelationPlugin::getPluginVersion() const noexcept
{
    return kVersion;
}
AsciiChar const* CorrelationPlugin::getPluginNamespace() const noexcept
{
    return kNamespace;
}
int32_t CorrelationPlugin::getNbOutputs() const noexcept
{
    return kOutputs;
}
char const* CorrelationPlugin::getTimingCacheID() noexcept
{
    return timing_cache_id_.c_str();
}
PluginFieldCollection const* CorrelationPlugin::getFieldsToSerialize() noexcept
{
    return &collection_;
}
IPluginV3* CorrelationPlugin::attachToContext(IPluginResourceContext*) noexcept
{
    return clone();
}

Problem CorrelationPlugin::problem(Shapes const& in) const noexcept
{
    Problem p{};
    p.batch = static_cast<int32_t>(in[0].d[0]);
    p.supports = static_cast<int32_t>(in[1].d[0]);
    p.layers = static_cast<int32_t>(in[0].d[1]);
    p.channels = static_cast<int32_t>(in[0].d[2]);
    p.query_row = static_cast<int32_t>(in[0].d[3]);
    p.column_row = static_cast<int32_t>(in[1].d[3]);
    p.query_h = attributes_[0];
    p.query_w = attributes_[1];
    p.support_h = attributes_[2];
    p.support_w = attributes_[3];
    p.stride = attributes_[4];
    return p;
}

// Checks fixed or largest shapes, or shapes with -1, which fits any size.
bool CorrelationPlugin::fits(Shapes const& in) const noexcept
{
    Dims const& query = in[0];
    Dims const& columns = in[1];
    Dims const& positions = in[2];
    Dims const& counts = in[3];
    int64_t const query_positions = static_cast<int64_t>(attributes_[0]) * attributes_[1];
    int64_t const support_positions = static_cast<int64_t>(attributes_[2]) * attributes_[3];
    auto const agree = [](int64_t a, int64_t b) { return a < 0 || b < 0 || a == b; };
    auto const is_row = [](int64_t n, int64_t least) { return n < 0 || (n >= least && n % kRowUnit == 0); };
    bool const shaped = query.nbDims == 4 && columns.nbDims == 4 && positions.nbDims == 2 && counts.nbDims == 1
        && agree(query.d[1], columns.d[1]) && agree(query.d[2], columns.d[2]) && is_row(query.d[3], query_positions)
        && is_row(columns.d[3], 1) && agree(positions.d[0], columns.d[0]) && agree(positions.d[1], columns.d[3])
        && agree(counts.d[0], columns.d[0]);
    if (!shaped)
    {
        report("the inputs do not fit the op; expected query [B, L, C, "
            + std::to_string(round_up(query_positions, kRowUnit))
            + "], columns [S, L, C, row], positions [S, row], counts [S], rows of a multiple of "
            + std::to_string(kRowUnit) + ", found " + shape_text(query) + ", " + shape_text(columns) + ", "
            + shape_text(positions) + ", " + shape_text(counts)
            + "; export the model again for the sizes it is fed with");
        return false;
    }
    if (query.d[0] > 0 && columns.d[0] > 0 && query.d[1] > 0)
    {
        double const elements = static_cast<double>(query.d[0]) * static_cast<double>(columns.d[0])
            * static_cast<double>(query.d[1]) * static_cast<double>(query_positions)
            * static_cast<double>(support_positions);
        if (elements > static_cast<double>(kMostElements) || query.d[0] * columns.d[0] > 65535)
        {
            report("the correlation of " + std::to_string(query.d[0]) + " queries and "
                + std::to_string(columns.d[0]) + " supports is too large; expected at most "
                + std::to_string(kMostElements) + " elements; build with a smaller profile");
            return false;
        }
    }
    return true;
}

int32_t CorrelationPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t inputs,
    DynamicPluginTensorDesc const*, int32_t outputs) noexcept
{
    if (inputs != kInputs || outputs != kOutputs)
    {
        report("expected 4 inputs and 2 outputs, found " + std::to_string(inputs) + " and "
            + std::to_string(outputs) + "; export the model again");
        return 1;
    }
    return fits({in[0].desc.dims, in[1].desc.dims, in[2].desc.dims, in[3].desc.dims})
            && fits({in[0].max, in[1].max, in[2].max, in[3].max})
        ? 0
        : 1;
}

int32_t CorrelationPlugin::getOutputDataTypes(
    DataType* types, int32_t outputs, DataType const* given, int32_t inputs) const noexcept
{
    if (inputs != kInputs || outputs != kOutputs)
    {
        return 1;
    }
    bool const floats = given[0] == given[1] && (given[0] == DataType::kHALF || given[0] == DataType::kFLOAT);
    if (!floats || given[2] != DataType::kINT32 || given[3] != DataType::kINT32)
    {
        std::string found;
        for (int32_t i = 0; i < inputs; ++i)
        {
            found += (i == 0 ? "" : ", ") + std::to_string(static_cast<int>(given[i]));
        }
        report("query and columns must be both FP16 or both FP32, positions and counts INT32, found types " + found
            + "; cast them, or export with the native correlation");
        return 1;
    }
    types[0] = given[0];
    types[1] = given[0];
    return 0;
}

int32_t CorrelationPlugin::getOutputShapes(DimsExprs const* in, int32_t inputs, DimsExprs const*, int32_t,
    DimsExprs* out, int32_t outputs, IExprBuilder& builder) noexcept
{
    if (inputs != kInputs || outputs != kOutputs || in[0].nbDims != 4 || in[1].nbDims != 4)
    {
        report("expected query [B, L, C, row] and columns [S, L, C, row]; export the model again");
        return 1;
    }
    auto const constant = [&](int32_t value) { return builder.constant(value); };
    auto const times = [&](IDimensionExpr const* a, IDimensionExpr const* b) {
        return builder.operation(DimensionOperation::kPROD, *a, *b);
    };
    int32_t const stride = attributes_[4];
    int32_t const kept = ((attributes_[2] + stride - 1) / stride) * ((attributes_[3] + stride - 1) / stride);
    auto const* const pairs = times(in[0].d[0], in[1].d[0]);
    out[0].nbDims = 4;
    out[0].d[0] = times(pairs, constant(attributes_[0] * attributes_[1]));
    out[0].d[1] = in[0].d[1];
    out[0].d[2] = constant(attributes_[2]);
    out[0].d[3] = constant(attributes_[3]);
    out[1].nbDims = 4;
    out[1].d[0] = times(pairs, constant(kept));
    out[1].d[1] = in[0].d[1];
    out[1].d[2] = constant(attributes_[0]);
    out[1].d[3] = constant(attributes_[1]);
    return 0;
}

bool CorrelationPlugin::supportsFormatCombination(
    int32_t position, DynamicPluginTensorDesc const* tensors, int32_t inputs, int32_t outputs) noexcept
{
    if (inputs != kInputs || outputs != kOutputs || position < 0 || position >= kInputs + kOutputs)
    {
        return false;
    }
    auto const& desc = tensors[position].desc;
    bool type = desc.type == tensors[0].desc.type;
    if (position == 0)
    {
        type = desc.type == DataType::kHALF || desc.type == DataType::kFLOAT;
    }
    else if (position == 2 || position == 3)
    {
        type = desc.type == DataType::kINT32;
    }
    return type && desc.format == TensorFormat::kLINEAR;
}

size_t CorrelationPlugin::getWorkspaceSize(
    DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*, int32_t) const noexcept
{
    return 0;
}

int32_t CorrelationPlugin::onShapeChange(
    PluginTensorDesc const* in, int32_t, PluginTensorDesc const*, int32_t) noexcept
{
    return fits(shapes_of(in)) ? 0 : 1;
}

int32_t CorrelationPlugin::enqueue(PluginTensorDesc const* in, PluginTensorDesc const*,
    void const* const* sources, void* const* targets, void*, cudaStream_t stream) noexcept
{
    int device = 0;
    int multiprocessors = 0;
    if (reports(cudaGetDevice(&device), "cudaGetDevice")
        || reports(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
            "cudaDeviceGetAttribute"))
    {
        return 1;
    }
    Problem p = problem(shapes_of(in));
    p.query = sources[0];
    p.columns = sources[1];
    p.positions = static_cast<int32_t const*>(sources[2]);
    p.counts = static_cast<int32_t const*>(sources[3]);
    p.full = targets[0];
    p.pruned = targets[1];
    p.multiprocessors = multiprocessors;
    bool const half = in[0].type == DataType::kHALF;
    return reports(launch(p, half, stream), "starting the kernel") ? 1 : 0;
}

} // namespace hsnet
