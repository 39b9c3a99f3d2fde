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
    return 2;
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

Problem CorrelationPlugin::problem(Dims const& query, Dims const& support) const noexcept
{
    Problem p{};
    p.batch = static_cast<int32_t>(query.d[0]);
    p.supports = static_cast<int32_t>(support.d[0]);
    p.layers = static_cast<int32_t>(query.d[1]);
    p.channels = static_cast<int32_t>(query.d[2]);
    p.query_h = attributes_[0];
    p.query_w = attributes_[1];
    p.support_h = attributes_[2];
    p.support_w = attributes_[3];
    p.stride = attributes_[4];
    return p;
}

// Of fixed or largest shapes, or ones with -1, which says nothing.
bool CorrelationPlugin::fits(Dims const& query, Dims const& support) const noexcept
{
    int64_t const query_positions = static_cast<int64_t>(attributes_[0]) * attributes_[1];
    int64_t const support_positions = static_cast<int64_t>(attributes_[2]) * attributes_[3];
    auto const agree = [](int64_t a, int64_t b) { return a < 0 || b < 0 || a == b; };
    bool const shaped = query.nbDims == 4 && support.nbDims == 4 && agree(query.d[1], support.d[1])
        && agree(query.d[2], support.d[2]) && agree(query.d[3], query_positions)
        && agree(support.d[3], support_positions);
    if (!shaped)
    {
        report("the inputs do not fit the op; expected query [B, L, C, " + std::to_string(query_positions)
            + "] and support [S, L, C, " + std::to_string(support_positions) + "], found "
            + shape_text(query) + " and " + shape_text(support)
            + "; export the model again for the sizes it is fed with");
        return false;
    }
    if (query.d[0] > 0 && support.d[0] > 0 && query.d[1] > 0)
    {
        double const elements = static_cast<double>(query.d[0]) * static_cast<double>(support.d[0])
            * static_cast<double>(query.d[1]) * static_cast<double>(query_positions)
            * static_cast<double>(support_positions);
        if (elements > static_cast<double>(kMostElements) || query.d[0] * support.d[0] > 65535)
        {
            report("the correlation of " + std::to_string(query.d[0]) + " queries and "
                + std::to_string(support.d[0]) + " supports is too large; expected at most "
                + std::to_string(kMostElements) + " elements; build with a smaller profile");
            return false;
        }
    }
    return true;
}

int32_t CorrelationPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t inputs,
    DynamicPluginTensorDesc const*, int32_t outputs) noexcept
{
    if (inputs != 2 || outputs != 2)
    {
        report("expected 2 inputs and 2 outputs, found " + std::to_string(inputs) + " and "
            + std::to_string(outputs) + "; export the model again");
        return 1;
    }
    return fits(in[0].desc.dims, in[1].desc.dims) && fits(in[0].max, in[1].max) ? 0 : 1;
}

int32_t CorrelationPlugin::getOutputDataTypes(
    DataType* types, int32_t outputs, DataType const* given, int32_t inputs) const noexcept
{
    if (inputs != 2 || outputs != 2)
    {
        return 1;
    }
    if (given[0] != given[1] || (given[0] != DataType::kHALF && given[0] != DataType::kFLOAT))
    {
        report("query and support must both be FP16 or both FP32, found types "
            + std::to_string(static_cast<int>(given[0])) + " and " + std::to_string(static_cast<int>(given[1]))
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
    if (inputs != 2 || outputs != 2 || in[0].nbDims != 4 || in[1].nbDims != 4)
    {
        report("expected query [B, L, C, positions] and support [S, L, C, positions]; export the model again");
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
    if (inputs != 2 || outputs != 2 || position < 0 || position > 3)
    {
        return false;
    }
    auto const& desc = tensors[position].desc;
    bool const type = position == 0 ? desc.type == DataType::kHALF || desc.type == DataType::kFLOAT
                                    : desc.type == tensors[0].desc.type;
    return type && desc.format == TensorFormat::kLINEAR;
}

size_t CorrelationPlugin::getWorkspaceSize(
    DynamicPluginTensorDesc const* in, int32_t, DynamicPluginTensorDesc const*, int32_t) const noexcept
{
    Problem p = problem(in[0].max, in[1].max);
    return lay_out(p, in[0].desc.type == DataType::kHALF ? 2 : 4, nullptr);
}

int32_t CorrelationPlugin::onShapeChange(
    PluginTensorDesc const* in, int32_t, PluginTensorDesc const*, int32_t) noexcept
{
    return fits(in[0].dims, in[1].dims) ? 0 : 1;
}

int32_t CorrelationPlugin::enqueue(PluginTensorDesc const* in, PluginTensorDesc const*,
    void const* const* sources, void* const* targets, void* workspace, cudaStream_t stream) noexcept
{
    int device = 0;
    int multiprocessors = 0;
    if (reports(cudaGetDevice(&device), "cudaGetDevice")
        || reports(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
            "cudaDeviceGetAttribute"))
    {
        return 1;
    }
    Problem p = problem(in[0].dims, in[1].dims);
    p.query = sources[0];
    p.support = sources[1];
    p.full = targets[0];
    p.pruned = targets[1];
    bool const half = in[0].type == DataType::kHALF;
    return reports(launch(p, half, multiprocessors, workspace, stream), "starting a kernel") ? 1 : 0;
}

} // namespace hsnet
