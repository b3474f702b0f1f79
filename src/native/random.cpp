// Random generators of the CPU that are independent of libtorch's global one. tch does not bind
// them.
#include <ATen/CPUGeneratorImpl.h>

#include "common.h"

using namespace mcan;

extern "C" {

char *mcan_new_generator(at::Generator **out, uint64_t seed) {
  return guarded([&] { *out = new at::Generator(at::make_generator<at::CPUGeneratorImpl>(seed)); });
}

void mcan_free_generator(at::Generator *generator) { delete generator; }

char *mcan_draw_uniform(at::Generator *generator, const Tensor *tensor, double from, double to) {
  return guarded([&] { tensor->uniform_(from, to, *generator); });
}

char *mcan_draw_normal(at::Generator *generator, const Tensor *tensor, double mean, double std) {
  return guarded([&] { tensor->normal_(mean, std, *generator); });
}

}  // extern "C"
