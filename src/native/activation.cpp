// The middle of a multi-layer perceptron, on the CPU: bias, ReLU and dropout in one pass each way.
#include "mask.h"

namespace {

using at::Tensor;
using mcan::BLOCK;
using mcan::Mask;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t ROWS = 32;  // whose bias gradients are summed together, whatever the number of threads

INLINE void activate_rows_body(float *out, const float *in, const float *bias, int64_t first, int64_t last,
                               int64_t columns, const Mask *mask) {
  const int64_t pitch = (columns + BLOCK - 1) / BLOCK * BLOCK;
  for (int64_t row = first; row < last; row++) {
    const float *x = in + row * columns;
    float *y = out + row * columns;
    for (int64_t start = 0; start < columns; start += BLOCK) {
      float factors[BLOCK];
      if (mask) {
        mcan::mask_factors(factors, row * pitch + start, BLOCK, *mask);
      } else {
        for (int64_t i = 0; i < BLOCK; i++) factors[i] = 1.0f;
      }
      const int64_t n = columns - start < BLOCK ? columns - start : BLOCK;
      for (int64_t i = start; i < start + n; i++) {
        const float value = x[i] + bias[i];
        y[i] = (value > 0.0f ? value : 0.0f) * factors[i - start];
      }
    }
  }
}
KERNEL(activate_rows,
       (float *out, const float *in, const float *bias, int64_t first, int64_t last, int64_t columns, const Mask *mask),
       (out, in, bias, first, last, columns, mask))

// A kept output is positive and everything else is zero, so the output is its own mask.
INLINE void activate_rows_backward_body(float *dx, float *dbias, const float *dy, const float *y, int64_t first,
                                        int64_t last, int64_t columns, float scale) {
  for (int64_t row = first; row < last; row++) {
    for (int64_t i = 0; i < columns; i++) {
      const int64_t at = row * columns + i;
      const float grad = y[at] > 0.0f ? dy[at] * scale : 0.0f;
      dx[at] = grad;
      dbias[i] += grad;
    }
  }
}
KERNEL(activate_rows_backward,
       (float *dx, float *dbias, const float *dy, const float *y, int64_t first, int64_t last, int64_t columns,
        float scale),
       (dx, dbias, dy, y, first, last, columns, scale))

// dropout(relu(x + bias)); no dropout where p is 0.
struct Activate : torch::autograd::Function<Activate> {
  static Tensor forward(AutogradContext *ctx, const Tensor &input, const Tensor &bias, double p, int64_t seed,
                        int64_t stream) {
    auto x = input.to(at::kFloat).contiguous(), b = bias.to(at::kFloat).contiguous();
    const int64_t rows = x.size(0), columns = x.size(1);
    const Mask mask{p, uint64_t(seed), uint64_t(stream)};
    auto y = at::empty_like(x);
    const float *in = x.const_data_ptr<float>(), *bias_values = b.const_data_ptr<float>();
    float *out = y.mutable_data_ptr<float>();
    at::parallel_for(0, rows, ROWS, [&](int64_t first, int64_t last) {
      activate_rows(out, in, bias_values, first, last, columns, p > 0 ? &mask : nullptr);
    });
    ctx->saved_data["scale"] = p > 0 ? double(mask.scale()) : 1.0;
    y = y.to(input.scalar_type());
    ctx->save_for_backward({y});
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables()[0];
    auto y = saved.to(at::kFloat), dy = grads[0].to(at::kFloat).contiguous();
    const int64_t rows = y.size(0), columns = y.size(1), groups = (rows + ROWS - 1) / ROWS;
    auto dx = at::empty_like(y), dbias = at::zeros({groups, columns}, y.options());
    const float scale = static_cast<float>(ctx->saved_data["scale"].toDouble());
    const float *out = y.const_data_ptr<float>(), *grad = dy.const_data_ptr<float>();
    float *to = dx.mutable_data_ptr<float>(), *to_bias = dbias.mutable_data_ptr<float>();
    at::parallel_for(0, groups, 1, [&](int64_t first, int64_t last) {
      for (int64_t group = first; group < last; group++) {
        activate_rows_backward(to, to_bias + group * columns, grad, out, group * ROWS,
                               std::min(rows, (group + 1) * ROWS), columns, scale);
      }
    });
    return {dx.to(saved.scalar_type()), dbias.sum(0), Variable(), Variable(), Variable()};
  }
};

}  // namespace

// x (R, D), bias (D) -> (R, D)
extern "C" char *mcan_activate(Tensor **out, Tensor *x, Tensor *bias, double p, uint64_t seed, uint64_t stream) {
  return mcan::guarded([&] { *out = new Tensor(Activate::apply(*x, *bias, p, int64_t(seed), int64_t(stream))); });
}
