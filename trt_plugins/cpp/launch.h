// Launching the kernel of one call on a stream.
#ifndef HSNET_LAUNCH_H
#define HSNET_LAUNCH_H

#include "../kernels/plan.h"

#include <cuda_runtime_api.h>

namespace hsnet
{

// Launches the kernel; half: FP16 elements, else FP32. Returns the launch's error.
cudaError_t launch(Problem const& p, bool half, cudaStream_t stream);

} // namespace hsnet

#endif
