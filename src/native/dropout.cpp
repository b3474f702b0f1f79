// Dropout on the CPU, with masks that any thread can draw.
#include "mask.h"

namespace mcan {

INLINE void masked_body(float *out, const float *in, int64_t first, int64_t count,
                        const Mask *mask) {
  for (int64_t start = 0; start < count; start += BLOCK) {
    float factors[BLOCK];
    mask_factors(factors, first + start, BLOCK, *mask);
    const int64_t n = count - start < BLOCK ? count - start : BLOCK;
    for (int64_t i = 0; i < n; i++) out[start + i] = in[start + i] * factors[i];
  }
}
KERNEL(masked, (float *out, const float *in, int64_t first, int64_t count, const Mask *mask),
       (out, in, first, count, mask))

}  // namespace mcan

namespace {

using namespace mcan;

// in * mask, for a tensor of any shape; its positions are those of the flattened tensor.
Tensor drop(const Tensor &in, const Mask &mask) {
  constexpr int64_t BLOCKS = 256;  // of one task
  auto x = in.contiguous(), out = at::empty_like(x);
  const float *from = x.const_data_ptr<float>();
  float *to = out.mutable_data_ptr<float>();
  const int64_t count = x.numel();
  for_each_range(ceil_div(count, BLOCK), BLOCKS, [&](int64_t first, int64_t last) {
    const int64_t start = first * BLOCK, end = std::min(last * BLOCK, count);
    masked(to + start, from + start, start, end - start, &mask);
  });
  return out;
}

struct Dropout : torch::autograd::Function<Dropout> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, Mask mask) {
    mask.save(ctx);
    return drop(x, mask);
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    return {drop(grads[0], Mask::saved(ctx)), Variable()};
  }
};

}  // namespace

extern "C" char *mcan_dropout(Tensor **out, const Tensor *x, double p, uint64_t seed,
                              uint64_t stream) {
  return guarded([&] { *out = new Tensor(Dropout::apply(*x, Mask{p, seed, stream})); });
}
