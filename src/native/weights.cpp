// Parameters on their way into matrix products: joined, and cast to the kind of the products, many in one kernel of a GPU.
#include "common.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// The rows of `joined` that are those of each of `like`.
std::vector<Tensor> rows_of_each(const Tensor &joined, at::TensorList like) {
  std::vector<Tensor> out;
  int64_t first = 0;
  for (const auto &one : like) {
    out.push_back(joined.narrow(0, first, one.size(0)));
    first += one.size(0);
  }
  return out;
}

// `params` in stretches of counts[i], each stretch one matrix (or vector) under the other.
struct JoinAndCast : torch::autograd::Function<JoinAndCast> {
  static variable_list forward(AutogradContext *ctx, at::TensorList params, std::vector<int64_t> counts, int64_t kind) {
    const at::NoGradGuard no_grad;
    variable_list joined;
    std::vector<Tensor> parts;
    at::TensorList rest = params;
    for (const int64_t count : counts) {
      const auto stretch = rest.slice(0, count);
      rest = rest.slice(count);
      auto sizes = stretch[0].sizes().vec();
      sizes[0] = 0;
      for (const auto &one : stretch) sizes[0] += one.size(0);
      joined.push_back(at::empty(sizes, stretch[0].options().dtype(static_cast<at::ScalarType>(kind))));
      for (auto &part : rows_of_each(joined.back(), stretch)) parts.push_back(std::move(part));
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
      for (auto &part : rows_of_each(grads[i], rest.slice(0, counts[i]))) parts.push_back(std::move(part));
      rest = rest.slice(counts[i]);
    }
    if (parts[0].scalar_type() != params[0].scalar_type()) {
      std::vector<Tensor> cast;
      for (const auto &param : params) cast.push_back(at::empty_like(param));
      at::_foreach_copy_(cast, parts);
      parts = std::move(cast);
    }
    // None for the counts and for the kind.
    parts.resize(params.size() + 2);
    return parts;
  }
};

}  // namespace

// out[i] is the next counts[i] of `params` joined; there are `groups` of them.
extern "C" char *mcan_join_and_cast(Tensor **out, Tensor **params, const int64_t *counts, int64_t groups, bool bfloat16) {
  return mcan::guarded([&] {
    const std::vector<int64_t> lengths(counts, counts + groups);
    variable_list all;
    for (const int64_t length : lengths)
      for (int64_t i = 0; i < length; i++) all.push_back(**params++);
    const auto joined = JoinAndCast::apply(at::TensorList(all), lengths, int64_t(bfloat16 ? at::kBFloat16 : at::kFloat));
    for (int64_t i = 0; i < groups; i++) out[i] = new Tensor(joined[i]);
  });
}
