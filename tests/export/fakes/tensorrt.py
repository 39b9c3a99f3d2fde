"""A stand-in for `tensorrt` 10.3 as a Jetson has it: the surface a build uses, and ways to die.

What the build asked for is written to $FAKE_TENSORRT_RECORD; $FAKE_TENSORRT says how it ends.
"""

import enum
import json
import os
import signal
import time
from pathlib import Path

__version__ = "10.3.0"
BEHAVIOUR = os.environ.get("FAKE_TENSORRT", "build")
CALLS: dict = {"flags": [], "cleared": [], "pid": os.getpid()}


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


class IProgressMonitor:
    pass


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class BuilderFlag(enum.IntEnum):
    TF32, VERSION_COMPATIBLE = 7, 17


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class HardwareCompatibilityLevel(enum.IntEnum):  # SAME_COMPUTE_CAPABILITY came later
    NONE, AMPERE_PLUS = range(2)


class DataType(enum.IntEnum):
    FLOAT, HALF = range(2)


class LayerType(enum.IntEnum):
    CONVOLUTION, PLUGIN_V3 = 0, 44


class OnnxParserFlag(enum.IntEnum):  # ENABLE_PLUGIN_OVERRIDE came with 10.15
    NATIVE_INSTANCENORM = 0
    if os.environ.get("FAKE_TENSORRT_OVERRIDES"):
        ENABLE_PLUGIN_OVERRIDE = 3


class Tensor:
    def __init__(self, name, shape, dtype=DataType.FLOAT):
        self.name, self.shape, self.dtype = name, shape, dtype


class Registry:
    def load_library(self, path):
        CALLS["library"] = Path(path).read_bytes().decode("latin-1")
        return object()


def get_plugin_registry():
    return Registry()


class Layer:
    type, num_outputs = LayerType.CONVOLUTION, 1

    def __init__(self, kind=LayerType.CONVOLUTION, dtype=DataType.FLOAT):
        self.type, self.dtype = kind, dtype

    def get_output(self, index):
        return Tensor("out", (1,), self.dtype)


class Network:
    num_outputs = 0

    def __init__(self):
        self.inputs = []
        self.layers = [Layer()]

    num_layers = property(lambda self: len(self.layers))

    def __bool__(self):  # as TensorRT's, which has no layers yet
        return False

    num_inputs = property(lambda self: len(self.inputs))

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        raise AssertionError("it has none")

    def get_layer(self, index):
        return self.layers[index]


class OnnxParser:
    num_errors = 0

    def __init__(self, network, log):
        self.network, self.override = network, False

    def set_flag(self, flag):
        CALLS.setdefault("parser_flags", []).append(flag.name)
        self.override = flag.name == "ENABLE_PLUGIN_OVERRIDE"

    def parse_from_file(self, path):
        content = Path(path).read_bytes()
        if b"image" in content:
            names = ["image"]
        elif b"mask" in content:
            names = ["f2", "f3", "f4", "mask"]
        else:
            names = ["f2", "f3", "f4", "s2", "s3", "s4"]
        shapes = {"image": (-1, 3, 64, 64), "mask": (-1, 64, 64)}
        # As TensorRT does: a function goes before a plugin of its name, unless it is overridden.
        free = self.override or b"function" not in content
        if free and b"HyperCorrelation" in content and "library" in CALLS:
            self.network.layers += [Layer(LayerType.PLUGIN_V3)] * 3
        # Small graphs in FP16 are named so; $FAKE_TENSORRT_LAYERS is what their layers became.
        dtype = DataType.HALF if b"fp16" in content else DataType.FLOAT
        layers = DataType[os.environ.get("FAKE_TENSORRT_LAYERS", dtype.name)]
        self.network.layers[0] = Layer(LayerType.CONVOLUTION, layers)
        self.network.inputs = [Tensor(n, shapes.get(n, (-1, 1, 8, 64)), dtype) for n in names]
        return True


class LayerInformationFormat(enum.IntEnum):
    ONELINE, JSON = range(2)


class Inspector:
    def get_engine_information(self, kind):
        types = os.environ.get("FAKE_TENSORRT_ENGINE", "").split()
        layers = [
            {
                "LayerType": "CaskConvolution",
                "Inputs": [{"Format/Datatype": f"Row major linear {kind} format"}],
            }
            for kind in types
        ]
        return json.dumps({"Layers": [*layers, "{ForeignNode[all.the.rest]}"]})


class Engine:
    num_layers, device_memory_size, num_optimization_profiles = 4, 4096, 1

    def create_engine_inspector(self):
        return Inspector()


class Runtime:
    def __init__(self, log):
        pass

    def deserialize_cuda_engine(self, content):
        return None if os.environ.get("FAKE_TENSORRT_ENGINE") == "none" else Engine()


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content + b"+timed"


class Profile:
    def set_shape(self, name, *shapes):
        CALLS.setdefault("shapes", {})[name] = shapes


class Config:
    def set_flag(self, flag):
        CALLS["flags"].append(flag.name)

    def clear_flag(self, flag):
        CALLS["cleared"].append(flag.name)

    def set_memory_pool_limit(self, pool, size):
        CALLS[pool.name] = size

    def create_timing_cache(self, content):
        return TimingCache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return cache.content != b"another TensorRT"

    def get_timing_cache(self):
        return self.cache

    def add_optimization_profile(self, profile):
        return 0


class Builder:
    def __init__(self, log):
        self.log = log

    def create_network(self, flags):
        CALLS["network_flags"] = flags
        return Network()

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        activation = os.environ.get("FAKE_TENSORRT_ACTIVATION", "4096")
        self.log.log(ILogger.INFO, f"Total Activation Memory: {activation} bytes")
        self.log.log(ILogger.ERROR, "the last words of the builder")
        os.write(1, b"0\n")  # native code prints to standard output, here even something of JSON
        for name in ("level", "builder_optimization_level", "hardware_compatibility_level"):
            CALLS[name] = getattr(config, name, None)
        if os.environ.get("FAKE_TENSORRT_RECORD"):
            Path(os.environ["FAKE_TENSORRT_RECORD"]).write_text(json.dumps(CALLS))
        if BEHAVIOUR == "sleep":
            self.log.log(ILogger.INFO, "about to sleep")
            time.sleep(60)
        if BEHAVIOUR == "memory":  # as seen when TensorRT for RTX was given 600 MiB
            self.log.log(ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return None
        if BEHAVIOUR == "abort":
            os.abort()
        if BEHAVIOUR == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if BEHAVIOUR == "exit":
            os._exit(3)
        if BEHAVIOUR == "refuse":
            return None
        return b"an engine"
