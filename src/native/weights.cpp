// Casts parameters to the matmul dtype and concatenates each group, so that v, k and q are one
// product. On a GPU all casts run in one kernel.
#include "common.h"

namespace {

using namespace mcan;

// Splits the rows of `joined` into parts with as many rows as each of `like`.
std::vector<Tensor> rows_of_each(const Tensor &joined, at::TensorList like) {
  std::vector<Tensor> out;
  int64_t first = 0;
  for (const auto &one : like) {
    out.push_back(joined.narrow(0, first, one.size(0)));
    first += one.size(0);
  }
  return out;
}

// Concatenates the next counts[i] of `params` along their first axis, for each i.
struct JoinAndCast : torch::autograd::Function<JoinAndCast> {
  static variable_list forward(AutogradContext *ctx, at::TensorList params,
                               std::vector<int64_t> counts, int64_t kind) {
    const at::NoGradGuard no_grad;
    variable_list joined;
    std::vector<Tensor> parts;
    at::TensorList rest = params;
    for (const int64_t count : counts) {
      const auto group = rest.slice(0, count);
      rest = rest.slice(count);
      auto sizes = group[0].sizes().vec();
      sizes[0] = 0;
      for (const auto &one : group) sizes[0] += one.size(0);
      joined.push_back(
          at::empty(sizes, group[0].options().dtype(static_cast<at::ScalarType>(kind))));
      for (auto &part : rows_of_each(joined.back(), group)) parts.push_back(std::move(part));
    }
    at::_foreach_copy_(parts, params);
    ctx->save_for_backward(params.vec());
    ctx->saved_data["counts"] = counts;
    return joined;
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto params = ctx->get_saved_variables();
    const auto counts = ctx->saved_data["counts"].toIntVector();
    variable_list parts;
    at::TensorList rest(params);
    for (size_t i = 0; i < counts.size(); i++) {
      for (auto &part : rows_of_each(grads[i], rest.slice(0, counts[i])))
        parts.push_back(std::move(part));
      rest = rest.slice(counts[i]);
    }
    if (parts[0].scalar_type() != params[0].scalar_type()) {
      std::vector<Tensor> cast;
      for (const auto &param : params) cast.push_back(at::empty_like(param));
      at::_foreach_copy_(cast, parts);
      parts = std::move(cast);
    }
    // No gradients for the counts and the kind.
    parts.resize(params.size() + 2);
    return parts;
  }
};

}  // namespace

extern "C" char *mcan_join_and_cast(Tensor **out, const Tensor *const *params,
                                    const int64_t *counts, int64_t groups, bool bfloat16) {
  return guarded([&] {
    const std::vector<int64_t> lengths(counts, counts + groups);
    int64_t count = 0;
    for (const int64_t length : lengths) count += length;
    const auto kind = int64_t(bfloat16 ? at::kBFloat16 : at::kFloat);
    const auto joined = JoinAndCast::apply(at::TensorList(list(params, count)), lengths, kind);
    for (int64_t i = 0; i < groups; i++) out[i] = new Tensor(joined[i]);
  });
}
