// The kernels before and after the network: uint8 photograph -> normalised planes, and logits -> masks,
// scores and labels at the photograph's own size; in between, if masks are refined, the colour model and
// the guided filter of pictures/. Except for the refinement, the arithmetic is that of the CPU path, step
// by step (Pillow's fixed-point resampling, columns before rows, and NumPy's float32 rounding: no fused
// multiply-adds).
#include "colour.cuh"
#include "filter.cuh"
#include "guide.cuh"
#include "likeness.cuh"
#include "masks.cuh"
#include "prepare.cuh"

// Each takes its struct by value; frame_kernels.py packs the same bytes.
extern "C" __global__ void hsnet_prepare_f32(hsnet::Prepare p) { hsnet::prepare<float>(p); }
extern "C" __global__ void hsnet_prepare_f16(hsnet::Prepare p) { hsnet::prepare<__half>(p); }
extern "C" __global__ void hsnet_vote_f32(hsnet::Vote p) { hsnet::vote<float>(p); }
extern "C" __global__ void hsnet_vote_f16(hsnet::Vote p) { hsnet::vote<__half>(p); }
extern "C" __global__ void hsnet_settle(hsnet::Settle p) { hsnet::settle(p); }
extern "C" __global__ void hsnet_likeness_f32(hsnet::Likeness p) { hsnet::likeness<float>(p); }
extern "C" __global__ void hsnet_likeness_f16(hsnet::Likeness p) { hsnet::likeness<__half>(p); }
extern "C" __global__ void hsnet_guide_f32(hsnet::Guide p) { hsnet::guide<float>(p); }
extern "C" __global__ void hsnet_guide_f16(hsnet::Guide p) { hsnet::guide<__half>(p); }
extern "C" __global__ void hsnet_count_f32(hsnet::Colour p) { hsnet::count<float>(p); }
extern "C" __global__ void hsnet_count_f16(hsnet::Colour p) { hsnet::count<__half>(p); }
extern "C" __global__ void hsnet_weigh_f32(hsnet::Colour p) { hsnet::weigh<float>(p); }
extern "C" __global__ void hsnet_weigh_f16(hsnet::Colour p) { hsnet::weigh<__half>(p); }
extern "C" __global__ void hsnet_fit(hsnet::Fit p) { hsnet::fit(p); }
extern "C" __global__ void hsnet_refine(hsnet::Refine p) { hsnet::refine(p); }
