// The end of every sub-layer on the CPU: dropout, residual connection and the reference's norm, one
// pass forward and one backward.
#include <cmath>

#include "mask.h"

namespace {

using namespace mcan;

constexpr int64_t SUMS = 16;      // partial sums along a row
constexpr float EPSILON = 1e-6f;  // added to the standard deviation

INLINE float total(const float sums[SUMS]) {
  float result = 0.0f;
  for (int64_t i = 0; i < SUMS; i++) result += sums[i];
  return result;
}

// z = x + s * mask, y = a (z - mean) / (std + epsilon) + b; stats (R, 2) keeps mean and unbiased
// std.
struct Forward {
  float *y, *z, *stats;
  const float *x, *s, *a, *b;
  int64_t columns;
  const Mask *mask;
};

INLINE void norm_rows_body(const Forward *with, int64_t first, int64_t last) {
  const int64_t columns = with->columns, pitch = round_up(columns, BLOCK);
  for (int64_t row = first; row < last; row++) {
    const float *x = with->x + row * columns, *s = with->s ? with->s + row * columns : nullptr;
    float *z = with->z + row * columns, *y = with->y + row * columns;
    for (int64_t start = 0; start < columns; start += BLOCK) {
      const int64_t end = columns - start < BLOCK ? columns : start + BLOCK;
      if (s && with->mask) {
        float factors[BLOCK];
        mask_factors(factors, row * pitch + start, BLOCK, *with->mask);
        for (int64_t i = start; i < end; i++) z[i] = x[i] + s[i] * factors[i - start];
      } else if (s) {
        for (int64_t i = start; i < end; i++) z[i] = x[i] + s[i];
      } else {
        for (int64_t i = start; i < end; i++) z[i] = x[i];
      }
    }
    const int64_t whole = columns / SUMS * SUMS;
    float sums[SUMS] = {};
    for (int64_t i = 0; i < whole; i += SUMS)
      for (int64_t j = 0; j < SUMS; j++) sums[j] += z[i + j];
    for (int64_t i = whole; i < columns; i++) sums[0] += z[i];
    const float mean = total(sums) / columns;
    float squares[SUMS] = {};
    for (int64_t i = 0; i < whole; i += SUMS)
      for (int64_t j = 0; j < SUMS; j++) squares[j] += (z[i + j] - mean) * (z[i + j] - mean);
    for (int64_t i = whole; i < columns; i++) squares[0] += (z[i] - mean) * (z[i] - mean);
    const float deviation = __builtin_sqrtf(total(squares) / (columns - 1)),
                inverse = 1.0f / (deviation + EPSILON);
    for (int64_t i = 0; i < columns; i++)
      y[i] = with->a[i] * ((z[i] - mean) * inverse) + with->b[i];
    with->stats[2 * row] = mean;
    with->stats[2 * row + 1] = deviation;
  }
}
KERNEL(norm_rows, (const Forward *with, int64_t first, int64_t last), (with, first, last))

struct Backward {
  float *dz, *ds, *da, *db;  // da, db: sums of this group of rows; ds may be null or dz
  const float *dy, *z, *stats, *a;
  int64_t columns;
  const Mask *mask;
};

// With d = z - mean, t = std + epsilon and g = a dy: dz = (g - mean(g)) / t - d sum(g d) / (t^2 std
// (D - 1)).
INLINE void norm_rows_backward_body(const Backward *with, int64_t first, int64_t last) {
  const int64_t columns = with->columns, pitch = round_up(columns, BLOCK);
  for (int64_t row = first; row < last; row++) {
    const float *dy = with->dy + row * columns, *z = with->z + row * columns, *a = with->a;
    float *dz = with->dz + row * columns;
    const float mean = with->stats[2 * row], deviation = with->stats[2 * row + 1];
    const float inverse = 1.0f / (deviation + EPSILON);
    const int64_t whole = columns / SUMS * SUMS;
    float sums[SUMS] = {}, products[SUMS] = {};
    for (int64_t i = 0; i < whole; i += SUMS) {
      for (int64_t j = 0; j < SUMS; j++) {
        const float g = a[i + j] * dy[i + j];
        sums[j] += g;
        products[j] += g * (z[i + j] - mean);
      }
    }
    for (int64_t i = whole; i < columns; i++) {
      const float g = a[i] * dy[i];
      sums[0] += g;
      products[0] += g * (z[i] - mean);
    }
    const float mean_g = total(sums) / columns;
    const float slope =
        deviation > 0.0f ? total(products) * inverse * inverse / (deviation * (columns - 1)) : 0.0f;
    for (int64_t i = 0; i < columns; i++) {
      const float d = z[i] - mean;
      dz[i] = (a[i] * dy[i] - mean_g) * inverse - d * slope;
      with->da[i] += dy[i] * d * inverse;
      with->db[i] += dy[i];
    }
    if (with->mask) {
      float *ds = with->ds + row * columns;
      for (int64_t start = 0; start < columns; start += BLOCK) {
        float factors[BLOCK];
        mask_factors(factors, row * pitch + start, BLOCK, *with->mask);
        const int64_t end = columns - start < BLOCK ? columns : start + BLOCK;
        for (int64_t i = start; i < end; i++) ds[i] = dz[i] * factors[i - start];
      }
    }
  }
}
KERNEL(norm_rows_backward, (const Backward *with, int64_t first, int64_t last), (with, first, last))

// norm(x + dropout(s)), or norm(x) without s.
struct ResidualNorm : torch::autograd::Function<ResidualNorm> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x_in, const std::optional<Tensor> &s_in,
                        const Tensor &a, const Tensor &b, Mask mask) {
    auto x = x_in.to(at::kFloat).contiguous();
    auto s = s_in ? s_in->to(at::kFloat).contiguous() : Tensor();
    const int64_t rows = x.size(0), columns = x.size(1);
    auto y = at::empty_like(x), z = s.defined() ? at::empty_like(x) : x,
         stats = at::empty({rows, 2}, x.options());
    const Forward with{y.mutable_data_ptr<float>(),
                       z.mutable_data_ptr<float>(),
                       stats.mutable_data_ptr<float>(),
                       x.const_data_ptr<float>(),
                       s.defined() ? s.const_data_ptr<float>() : nullptr,
                       a.const_data_ptr<float>(),
                       b.const_data_ptr<float>(),
                       columns,
                       mask.p > 0 ? &mask : nullptr};
    for_each_range(rows, ROWS, [&](int64_t first, int64_t last) { norm_rows(&with, first, last); });
    ctx->save_for_backward({z, stats, a});
    mask.save(ctx);
    ctx->saved_data["x_kind"] = static_cast<int64_t>(x_in.scalar_type());
    ctx->saved_data["s_kind"] = s_in ? static_cast<int64_t>(s_in->scalar_type()) : int64_t{-1};
    return y;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &z = saved[0], &stats = saved[1], &a = saved[2];
    auto dy = grads[0].contiguous();
    const Mask mask = Mask::saved(ctx);
    const int64_t s_kind = ctx->saved_data["s_kind"].toInt();
    const bool masked = mask.p > 0 && s_kind >= 0;
    const int64_t rows = z.size(0), columns = z.size(1), groups = ceil_div(rows, ROWS);
    auto dz = at::empty_like(z), ds = masked ? at::empty_like(z) : dz;
    auto sums = at::zeros({groups, 2, columns}, z.options());
    Backward with{dz.mutable_data_ptr<float>(),
                  ds.mutable_data_ptr<float>(),
                  nullptr,
                  nullptr,
                  dy.const_data_ptr<float>(),
                  z.const_data_ptr<float>(),
                  stats.const_data_ptr<float>(),
                  a.const_data_ptr<float>(),
                  columns,
                  masked ? &mask : nullptr};
    float *parameters = sums.mutable_data_ptr<float>();
    for_each_range(rows, ROWS, [&](int64_t first, int64_t last) {
      Backward mine = with;
      mine.da = parameters + 2 * (first / ROWS) * columns;
      mine.db = mine.da + columns;
      norm_rows_backward(&mine, first, last);
    });
    auto parameter_grads = sums.sum(0);
    auto dx = dz.to(static_cast<at::ScalarType>(ctx->saved_data["x_kind"].toInt()));
    auto ds_out = s_kind < 0 ? Variable() : ds.to(static_cast<at::ScalarType>(s_kind));
    return {dx, ds_out, parameter_grads[0], parameter_grads[1], Variable()};
  }
};

}  // namespace

extern "C" char *mcan_residual_norm(Tensor **out, const Tensor *x, const Tensor *s, const Tensor *a,
                                    const Tensor *b, double p, uint64_t seed, uint64_t stream) {
  return guarded([&] {
    *out =
        new Tensor(ResidualNorm::apply(*x, optional(s), *a, *b, Mask{s ? p : 0.0, seed, stream}));
  });
}
