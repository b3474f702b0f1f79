// The step of the optimizer, through the fused kernel of libtorch that tch does not bind.
#include "common.h"

using namespace mcan;

extern "C" char *mcan_clear_grads(const Tensor *const *params, int64_t count) {
  return guarded([&] {
    for (int64_t i = 0; i < count; i++) params[i]->mutable_grad().reset();
  });
}

extern "C" char *mcan_fused_adam(const Tensor *const *params, const Tensor *const *grads,
                                 const Tensor *const *exp_avgs, const Tensor *const *exp_avg_sqs,
                                 int64_t count, const Tensor *step, double lr, double beta1,
                                 double beta2, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count);
    auto m = list(exp_avgs, count), v = list(exp_avg_sqs, count);
    std::vector<Tensor> steps(count, *step);
    at::_fused_adam_(p, g, m, v, {}, steps, lr, beta1, beta2, /*weight_decay=*/0.0, eps,
                     /*amsgrad=*/false, /*maximize=*/false);
  });
}
