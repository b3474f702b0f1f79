// Random numbers from a generator of one's own, through the interface of libtorch that tch does not bind.
#include "common.h"

#include <ATen/CPUGeneratorImpl.h>

using mcan::guarded;

extern "C" {

char *mcan_generator(at::Generator **out, uint64_t seed) {
  return guarded([&] { *out = new at::Generator(at::make_generator<at::CPUGeneratorImpl>(seed)); });
}

void mcan_free_generator(at::Generator *generator) { delete generator; }

char *mcan_draw_uniform(at::Generator *generator, at::Tensor *tensor, double from, double to) {
  return guarded([&] { tensor->uniform_(from, to, *generator); });
}

char *mcan_draw_normal(at::Generator *generator, at::Tensor *tensor, double mean, double std) {
  return guarded([&] { tensor->normal_(mean, std, *generator); });
}

}  // extern "C"
