// hsnet::HyperCorrelation as an IPluginV3 (TensorRT developer guide, "Adding Custom Layers Using
// the V3 Plugin API"). It needs TensorRT's headers, and does not link its library.
#ifndef HSNET_CORRELATION_PLUGIN_H
#define HSNET_CORRELATION_PLUGIN_H

#include "../kernels/plan.h"

#include <NvInferRuntime.h>
#include <array>
#include <string>

namespace hsnet
{

constexpr char const* kName = "HyperCorrelation";
constexpr char const* kVersion = "1";
constexpr char const* kNamespace = "";
constexpr std::array<char const*, 5> kAttributes{"query_h", "query_w", "support_h", "support_w", "stride"};
constexpr int32_t kInputs = 4; // query, columns, positions, counts
constexpr int32_t kOutputs = 2;
using Shapes = std::array<nvinfer1::Dims, kInputs>;
using Attributes = std::array<int32_t, kAttributes.size()>;

// Reports an error to TensorRT's logger if there is one, else to standard error.
void report(std::string const& message) noexcept;
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

class CorrelationPlugin final : public nvinfer1::IPluginV3,
                                public nvinfer1::IPluginV3OneCore,
                                public nvinfer1::IPluginV3OneBuild,
                                public nvinfer1::IPluginV3OneRuntime
{
public:
    explicit CorrelationPlugin(Attributes const& attributes);

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    nvinfer1::AsciiChar const* getPluginName() const noexcept override;
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
        nvinfer1::DynamicPluginTensorDesc const* out, int32_t outputs) noexcept override;
    int32_t getOutputDataTypes(nvinfer1::DataType* types, int32_t outputs, nvinfer1::DataType const* given,
        int32_t inputs) const noexcept override;
    int32_t getOutputShapes(nvinfer1::DimsExprs const* in, int32_t inputs, nvinfer1::DimsExprs const* shapes,
        int32_t shape_inputs, nvinfer1::DimsExprs* out, int32_t outputs,
        nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
        int32_t inputs, int32_t outputs) noexcept override;
    int32_t getNbOutputs() const noexcept override;
    size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
        nvinfer1::DynamicPluginTensorDesc const* out, int32_t outputs) const noexcept override;
    char const* getTimingCacheID() noexcept override;

    int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs,
        nvinfer1::PluginTensorDesc const* out, int32_t outputs) noexcept override;
    int32_t enqueue(nvinfer1::PluginTensorDesc const* in, nvinfer1::PluginTensorDesc const* out,
        void const* const* sources, void* const* targets, void* workspace, cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

private:
    Problem problem(Shapes const& in) const noexcept;
    bool fits(Shapes const& in) const noexcept;

    Attributes attributes_;
    std::array<nvinfer1::PluginField, kAttributes.size()> fields_;
    nvinfer1::PluginFieldCollection collection_;
    std::string timing_cache_id_;
};

class CorrelationCreator final : public nvinfer1::IPluginCreatorV3One
{
public:
    CorrelationCreator();
    nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* name,
        nvinfer1::PluginFieldCollection const* given, nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    nvinfer1::AsciiChar const* getPluginName() const noexcept override;
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

private:
    std::array<nvinfer1::PluginField, kAttributes.size()> fields_;
    nvinfer1::PluginFieldCollection collection_;
};

} // namespace hsnet

#endif
