// The few operations that libtorch has and tch does not bind, and the few that libtorch lacks.
//
// Each function takes and returns at::Tensor pointers as tch does, catches every C++ exception, and returns null or a
// message that the Rust face (mod.rs) frees with mcan_free.

#include "common.h"

#include <cstdlib>

namespace {

using mcan::guarded;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// ---- rows to and from a grid -----------------------------------------------------------------------------------

// grid[slots[i]] = rows[i], zero elsewhere. `slots` has no duplicates.
at::Tensor place(const at::Tensor &rows, const at::Tensor &slots, int64_t total) {
  auto sizes = rows.sizes().vec();
  sizes[0] = total;
  auto grid = at::zeros(sizes, rows.options());
  return grid.index_copy_(0, slots, rows.contiguous());
}

// Placing rows in a grid and taking them out are each other's adjoint, which autograd's own index operations (with their
// accumulating backward passes) do not know.
struct PadRows : torch::autograd::Function<PadRows> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &rows, const at::Tensor &slots, int64_t total) {
    ctx->save_for_backward({slots});
    return place(rows, slots, total);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {grads[0].contiguous().index_select(0, slots), Variable(), Variable()};
  }
};

struct UnpadRows : torch::autograd::Function<UnpadRows> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &grid, const at::Tensor &slots) {
    ctx->save_for_backward({slots});
    ctx->saved_data["total"] = grid.size(0);
    return grid.index_select(0, slots);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {place(grads[0], slots, ctx->saved_data["total"].toInt()), Variable()};
  }
};

std::vector<at::Tensor> list(at::Tensor **tensors, int64_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; i++) out.push_back(*tensors[i]);
  return out;
}

}  // namespace

extern "C" {

void mcan_free(char *message) { std::free(message); }

bool mcan_cpu_has_bf16() { return mcan::has_bf16(); }

bool mcan_cpu_rounds_to_bf16() { return mcan::has_bf16() || std::getenv("MCAN_ROUND_TO_BF16"); }

char *mcan_pad_rows(at::Tensor **out, at::Tensor *rows, at::Tensor *slots, int64_t total) {
  return guarded([&] { *out = new at::Tensor(PadRows::apply(*rows, *slots, total)); });
}

char *mcan_unpad_rows(at::Tensor **out, at::Tensor *grid, at::Tensor *slots) {
  return guarded([&] { *out = new at::Tensor(UnpadRows::apply(*grid, *slots)); });
}

// Forgets gradients: the next backward pass then stores its own instead of adding to zeros.
char *mcan_clear_grads(at::Tensor **params, int64_t count) {
  return guarded([&] {
    for (int64_t i = 0; i < count; i++) params[i]->mutable_grad().reset();
  });
}

// One fused pass of Adam over all parameters. `step` is the number of the step being taken (from 1), a 0-d float32
// tensor on the parameters' device.
char *mcan_fused_adam(at::Tensor **params, at::Tensor **grads, at::Tensor **exp_avgs, at::Tensor **exp_avg_sqs,
                      int64_t count, at::Tensor *step, double lr, double beta1, double beta2, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count), m = list(exp_avgs, count), v = list(exp_avg_sqs, count);
    std::vector<at::Tensor> steps(count, *step);
    at::_fused_adam_(p, g, m, v, {}, steps, lr, beta1, beta2, /*weight_decay=*/0.0, eps, /*amsgrad=*/false,
                     /*maximize=*/false);
  });
}

}  // extern "C"
