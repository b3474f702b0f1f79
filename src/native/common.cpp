// The functions of the C interface that belong to no other file: freeing of texts, and whether the
// CPU rounds to bfloat16.
#include "common.h"

extern "C" void mcan_free(char *text) { std::free(text); }

extern "C" bool mcan_cpu_rounds_to_bf16() {
  return mcan::has_bf16() || std::getenv("MCAN_ROUND_TO_BF16");
}
