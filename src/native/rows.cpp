// Packed rows to and from a padded grid. Each operation is the backward pass of the other.
// Autograd's own index operations would add up values there, because they do not know that the
// slots are all different.
#include "common.h"

namespace {

using namespace mcan;

// grid[slots[i]] = rows[i], zero elsewhere. `slots` has no duplicates.
Tensor pad(const Tensor &rows, const Tensor &slots, int64_t total) {
  auto sizes = rows.sizes().vec();
  sizes[0] = total;
  auto grid = at::zeros(sizes, rows.options());
  return grid.index_copy_(0, slots, rows.contiguous());
}

struct PadRows : torch::autograd::Function<PadRows> {
  static Tensor forward(AutogradContext *ctx, const Tensor &rows, const Tensor &slots,
                        int64_t total) {
    ctx->save_for_backward({slots});
    return pad(rows, slots, total);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {grads[0].contiguous().index_select(0, slots), Variable(), Variable()};
  }
};

struct UnpadRows : torch::autograd::Function<UnpadRows> {
  static Tensor forward(AutogradContext *ctx, const Tensor &grid, const Tensor &slots) {
    ctx->save_for_backward({slots});
    ctx->saved_data["total"] = grid.size(0);
    return grid.index_select(0, slots);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {pad(grads[0], slots, ctx->saved_data["total"].toInt()), Variable()};
  }
};

}  // namespace

extern "C" char *mcan_pad_rows(Tensor **out, const Tensor *rows, const Tensor *slots,
                               int64_t total) {
  return guarded([&] { *out = new Tensor(PadRows::apply(*rows, *slots, total)); });
}

extern "C" char *mcan_unpad_rows(Tensor **out, const Tensor *grid, const Tensor *slots) {
  return guarded([&] { *out = new Tensor(UnpadRows::apply(*grid, *slots)); });
}
