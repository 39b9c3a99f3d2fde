// In place of CUDA's own, which the kernels include: emulator.h, included first, has what they use.
