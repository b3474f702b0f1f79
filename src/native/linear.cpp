// Linear layers on the CPU: x Wᵀ + b, or dropout(relu(x Wᵀ + b)) in the same pass.
#include "gemm.h"
#include "mask.h"

namespace {

using namespace mcan;

// Up to so many rows, packing the weight for gemm takes too large a share of the time.
constexpr int64_t FEW_ROWS = 128;

// Whether libtorch computes the products of a layer with so many rows and outputs. In float32 it
// calls MKL, which is the fastest on Intel's processors (docs/src/performance.md). In bfloat16 it
// would round the results as well. MCAN_OWN_PRODUCTS is for comparisons and tests.
bool by_libtorch(int64_t rows, int64_t outputs, Factors factors) {
  static const bool own = std::getenv("MCAN_OWN_PRODUCTS");
  return factors == Factors::FLOAT && !own && (is_intel() || rows <= FEW_ROWS || outputs == 1);
}

// y = dropout(relu(y)) for rows [first, last), in place.
INLINE void activate_rows_body(float *values, int64_t first, int64_t last, int64_t columns,
                               const Mask *mask) {
  const int64_t pitch = round_up(columns, BLOCK);
  for (int64_t row = first; row < last; row++) {
    float *y = values + row * columns;
    for (int64_t start = 0; start < columns; start += BLOCK) {
      float factors[BLOCK];
      if (mask) {
        mask_factors(factors, row * pitch + start, BLOCK, *mask);
      } else {
        for (int64_t i = 0; i < BLOCK; i++) factors[i] = 1.0f;
      }
      const int64_t end = columns - start < BLOCK ? columns : start + BLOCK;
      for (int64_t i = start; i < end; i++) y[i] = (y[i] > 0.0f ? y[i] : 0.0f) * factors[i - start];
    }
  }
}
KERNEL(activate_rows,
       (float *values, int64_t first, int64_t last, int64_t columns, const Mask *mask),
       (values, first, last, columns, mask))

// The gradient before dropout and ReLU. An output is positive where it was kept and zero elsewhere,
// so it is its own mask.
INLINE void activate_rows_backward_body(float *dx, float *dbias, const float *dy, const float *y,
                                        int64_t first, int64_t last, int64_t columns, float scale) {
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
       (float *dx, float *dbias, const float *dy, const float *y, int64_t first, int64_t last,
        int64_t columns, float scale),
       (dx, dbias, dy, y, first, last, columns, scale))

// Writes the gradient before dropout and ReLU to dx; returns the gradient of the bias.
Tensor activate_backward(const Tensor &dx, const Tensor &dy, const Tensor &y, float scale) {
  const int64_t rows = y.size(0), columns = y.size(1), groups = ceil_div(rows, ROWS);
  auto dbias = at::zeros({groups, columns}, y.options());
  const float *out = y.const_data_ptr<float>(), *grad = dy.const_data_ptr<float>();
  float *to = dx.mutable_data_ptr<float>(), *to_bias = dbias.mutable_data_ptr<float>();
  for_each_range(rows, ROWS, [&](int64_t first, int64_t last) {
    activate_rows_backward(to, to_bias + first / ROWS * columns, grad, out, first, last, columns,
                           scale);
  });
  return dbias.sum(0);
}

Tensor product(const Tensor &a, const Tensor &b, Factors factors) {
  auto c = at::empty({a.size(0), b.size(1)}, a.options());
  gemm({c.mutable_data_ptr<float>(), c.size(1)}, Matrix(a), Matrix(b), factors);
  return c;
}

struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &input, const Tensor &weight,
                        const Tensor &bias, bool activate, Mask mask, bool bfloat16) {
    auto x = input.contiguous(), w = weight.contiguous(), b = bias.contiguous();
    const int64_t rows = x.size(0), columns = w.size(0);
    TORCH_CHECK(x.dim() == 2 && w.dim() == 2 && x.size(1) == w.size(1) && b.numel() == columns,
                "a linear layer of ", w.sizes(), " for inputs of ", x.sizes());
    auto y = at::empty({rows, columns}, x.options());
    float *out = y.mutable_data_ptr<float>();
    const auto finish = [&](int64_t first, int64_t last) {
      if (activate) activate_rows(out, first, last, columns, mask.p > 0 ? &mask : nullptr);
    };
    const auto factors = bfloat16 ? Factors::BFLOAT16 : Factors::FLOAT;
    if (by_libtorch(rows, columns, factors)) {
      at::addmm_out(y, b, x, w.t());
      if (activate) for_each_range(rows, ROWS, finish);
    } else {
      gemm({out, columns, b.const_data_ptr<float>()}, Matrix(x), Matrix(w.t()), factors, finish);
    }
    ctx->save_for_backward({x, w, activate ? y : Tensor()});
    ctx->saved_data["scale"] = mask.p > 0 ? double(mask.scale()) : 1.0;
    ctx->saved_data["bfloat16"] = bfloat16;
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], &y = saved[2];
    const auto factors = ctx->saved_data["bfloat16"].toBool() ? Factors::BFLOAT16 : Factors::FLOAT;
    auto dz = grads[0].contiguous();
    Tensor dbias;
    if (y.defined()) {
      auto before = at::empty_like(dz);
      dbias =
          activate_backward(before, dz, y, static_cast<float>(ctx->saved_data["scale"].toDouble()));
      dz = before;
    } else {
      dbias = dz.sum(0);
    }
    const bool libtorch = by_libtorch(dz.size(0), dz.size(1), factors);
    const auto product_of = [&](const Tensor &a, const Tensor &b) {
      return libtorch ? at::mm(a, b) : product(a, b, factors);
    };
    auto dx = ctx->needs_input_grad(0) ? product_of(dz, w) : Tensor();
    auto dw = product_of(dz.t(), x);
    return {dx, dw, dbias, Variable(), Variable(), Variable()};
  }
};

}  // namespace

extern "C" char *mcan_linear(Tensor **out, const Tensor *x, const Tensor *weight,
                             const Tensor *bias, bool activate, double p, uint64_t seed,
                             uint64_t stream, bool bfloat16) {
  return guarded([&] {
    *out = new Tensor(Linear::apply(*x, *weight, *bias, activate, Mask{p, seed, stream}, bfloat16));
  });
}
