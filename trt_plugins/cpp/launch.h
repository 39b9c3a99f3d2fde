// The three kernels of one call, on a stream.
#ifndef HSNET_LAUNCH_H
#define HSNET_LAUNCH_H

#include "../kernels/plan.h"

#include <cuda_runtime_api.h>

namespace hsnet
{

// p has its sizes and tensors; workspace holds lay_out's bytes. half: FP16 elements, else FP32.
cudaError_t launch(Problem p, bool half, int multiprocessors, void* workspace, cudaStream_t stream);

} // namespace hsnet

#endif
