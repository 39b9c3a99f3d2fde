// The creator, and the two functions that TensorRT looks for in a plugin library.
#include "correlation_plugin.h"

#include <cstring>
#include <iostream>
#include <mutex>

namespace hsnet
{

using namespace nvinfer1;

namespace
{

std::mutex logger_mutex;
ILoggerFinder* logger_finder = nullptr;

} // namespace

void set_logger_finder(ILoggerFinder* finder) noexcept
{
    std::lock_guard<std::mutex> const lock(logger_mutex);
    logger_finder = finder;
}

void report(std::string const& message) noexcept
{
    std::string const text = std::string("hsnet::") + kName + ": " + message;
    ILoggerFinder* finder = nullptr;
    {
        std::lock_guard<std::mutex> const lock(logger_mutex);
        finder = logger_finder;
    }
    // Outside the lock: a Python logger waits for the interpreter's lock, whose holder may call `report`.
    ILogger* const logger = finder == nullptr ? nullptr : finder->findLogger();
    if (logger == nullptr)
    {
        std::cerr << text << std::endl;
        return;
    }
    logger->log(ILogger::Severity::kERROR, text.c_str());
}

CorrelationCreator::CorrelationCreator()
{
    for (size_t i = 0; i < kAttributes.size(); ++i)
    {
        fields_[i] = PluginField(kAttributes[i], nullptr, PluginFieldType::kINT32, 1);
    }
    collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

IPluginV3* CorrelationCreator::createPlugin(
    AsciiChar const*, PluginFieldCollection const* given, TensorRTPhase) noexcept
{
    try
    {
        Attributes values{};
        for (size_t i = 0; i < kAttributes.size(); ++i)
        {
            PluginField const* found = nullptr;
            for (int32_t f = 0; given != nullptr && f < given->nbFields; ++f)
            {
                found = std::strcmp(given->fields[f].name, kAttributes[i]) == 0 ? &given->fields[f] : found;
            }
            bool const valid = found != nullptr && found->data != nullptr && found->length == 1
                && found->type == PluginFieldType::kINT32;
            if (!valid)
            {
                report(std::string("attribute ") + kAttributes[i]
                    + " is missing or no single integer; export the model again");
                return nullptr;
            }
            std::memcpy(&values[i], found->data, sizeof(int32_t));
            if (values[i] < 1)
            {
                report(std::string("attribute ") + kAttributes[i] + " is " + std::to_string(values[i])
                    + ", expected at least 1; export the model again");
                return nullptr;
            }
        }
        return new CorrelationPlugin(values);
    }
    catch (std::exception const& error)
    {
        report(std::string("creating failed: ") + error.what());
        return nullptr;
    }
}

PluginFieldCollection const* CorrelationCreator::getFieldNames() noexcept
{
    return &collection_;
}
AsciiChar const* CorrelationCreator::getPluginName() const noexcept
{
    return kName;
}
AsciiChar const* CorrelationCreator::getPluginVersion() const noexcept
{
    return kVersion;
}
AsciiChar const* CorrelationCreator::getPluginNamespace() const noexcept
{
    return kNamespace;
}

} // namespace hsnet

extern "C" __attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder)
{
    hsnet::set_logger_finder(finder);
}

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(
    int32_t& count)
{
    static hsnet::CorrelationCreator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}
