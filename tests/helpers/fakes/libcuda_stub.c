/* A driver library that answers as it was compiled to: INIT is cuInit's result, GPUS the count. */
#include <stddef.h>
#include <string.h>

int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Orin", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? 1 : 0;
  return 0;
}
