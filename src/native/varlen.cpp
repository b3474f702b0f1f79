// Multi-head attention over ragged sequences on a GPU, by libtorch's kernels: flash attention for
// bfloat16 and memory-efficient attention for float32. Both take packed rows and the first row of
// each sequence. tch binds neither.
#include <mutex>

#include "common.h"

namespace {

using namespace mcan;

// While an object of this class lives, libtorch uses deterministic backward kernels. The switch
// belongs to the process, and several threads may each drive a GPU, so the last object turns it
// off. (cuBLAS accepts the switch because its workspace is fixed: see prepare_cuda in device.rs.)
class Deterministic {
 public:
  Deterministic() {
    std::lock_guard<std::mutex> lock(mutex);
    if (users++ == 0) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  ~Deterministic() {
    std::lock_guard<std::mutex> lock(mutex);
    if (--users == 0) at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false);
  }

 private:
  inline static std::mutex mutex;
  inline static int64_t users = 0;
};

// Packed rows of all sequences, (R, H, d) and (S, H, d), and where each sequence begins.
struct Operands {
  Tensor q, k, v;
  Tensor query_starts, key_starts;  // (B + 1) int32
  int64_t longest_query, longest_key;
  double p;  // probability of dropout

  // `kv` (S, 2 D) is v and k side by side; without `q_rows` it is (S, 3 D) and holds q too. q, k
  // and v are views.
  Operands(const Tensor &kv, const Tensor &q_rows, const Tensor &query_starts,
           const Tensor &key_starts, int64_t longest_query, int64_t longest_key, int64_t heads,
           double p)
      : query_starts(query_starts),
        key_starts(key_starts),
        longest_query(longest_query),
        longest_key(longest_key),
        p(p) {
    const auto parts = kv.view({kv.size(0), q_rows.defined() ? 2 : 3, heads, -1}).unbind(1);
    v = parts[0];
    k = parts[1];
    q = q_rows.defined() ? q_rows.view({q_rows.size(0), heads, -1}) : parts[2];
  }
};

// Results of the forward pass, which the backward pass needs: out (R, H, d), log-sum-exp, and the
// state of the random numbers in two tensors.
using Result = std::array<Tensor, 4>;

Result flash_forward(const Operands &o) {
  auto [out, log_sum, state, unused, debug] = at::_flash_attention_forward(
      o.q, o.k, o.v, o.query_starts, o.key_starts, o.longest_query, o.longest_key, o.p,
      /*is_causal=*/false, /*return_debug_mask=*/false);
  return {out, log_sum, state, unused};
}

variable_list flash_backward(const Operands &o, const Tensor &dout, const Result &r) {
  const Deterministic deterministic;
  auto [dq, dk, dv] = at::_flash_attention_backward(dout, o.q, o.k, o.v, r[0], r[1], o.query_starts,
                                                    o.key_starts, o.longest_query, o.longest_key,
                                                    o.p, /*is_causal=*/false, r[2], r[3]);
  return {dq, dk, dv};
}

Result efficient_forward(const Operands &o, bool keep) {
  auto [out, log_sum, seed, offset, longest_query, longest_key] = at::_efficient_attention_forward(
      o.q.unsqueeze(0), o.k.unsqueeze(0), o.v.unsqueeze(0), /*bias=*/{}, o.query_starts,
      o.key_starts, o.longest_query, o.longest_key, o.p, /*custom_mask_type=*/0,
      /*compute_log_sumexp=*/keep);
  return {out.squeeze(0), log_sum, seed, offset};
}

variable_list efficient_backward(const Operands &o, const Tensor &dout, const Result &r) {
  // Keys are not split, so that they are summed in a fixed order.
  auto [dq, dk, dv, dbias] = at::_efficient_attention_backward(
      dout.unsqueeze(0), o.q.unsqueeze(0), o.k.unsqueeze(0), o.v.unsqueeze(0), /*bias=*/{},
      r[0].unsqueeze(0), o.query_starts, o.key_starts, o.longest_query, o.longest_key, r[1], o.p,
      r[2], r[3], /*custom_mask_type=*/0,
      /*bias_requires_grad=*/false, /*scale=*/std::nullopt, /*num_splits_key=*/1);
  return {dq.squeeze(0), dk.squeeze(0), dv.squeeze(0)};
}

bool takes_flash(const Tensor &t) { return t.scalar_type() != at::kFloat; }

// (R, 1) 0 for queries of sequences whose keys are only padding, else 1.
Tensor row_factors(const Tensor &present, const Tensor &query_starts, const Tensor &kv,
                   int64_t rows) {
  return at::repeat_interleave(present, query_starts.diff(), 0, rows)
      .unsqueeze(1)
      .to(kv.scalar_type());
}

struct VarlenAttention : torch::autograd::Function<VarlenAttention> {
  static Tensor forward(AutogradContext *ctx, const Tensor &kv, const std::optional<Tensor> &q_in,
                        const Tensor &query_starts, const Tensor &key_starts,
                        const std::optional<Tensor> &present, int64_t longest_query,
                        int64_t longest_key, int64_t heads, double p, bool keep) {
    auto q = q_in.value_or(Tensor());
    Tensor factors;
    if (present) {  // rare: q is then taken out of kv, so that it can be scaled alone
      const int64_t hidden = kv.size(1) / 3;
      q = q.defined() ? q : kv.narrow(1, 2 * hidden, hidden);
      factors = row_factors(*present, query_starts, kv, q.size(0));
      q = q * factors;
    }
    const auto kv_used =
        q.defined() && !q_in ? kv.narrow(1, 0, kv.size(1) / 3 * 2).contiguous() : kv;
    const Operands o(kv_used, q, query_starts, key_starts, longest_query, longest_key, heads, p);
    const auto r = takes_flash(kv) ? flash_forward(o) : efficient_forward(o, keep);
    ctx->save_for_backward({kv_used, q, query_starts, key_starts, factors, r[0], r[1], r[2], r[3]});
    ctx->saved_data["longest_query"] = longest_query;
    ctx->saved_data["longest_key"] = longest_key;
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["p"] = p;
    ctx->saved_data["own_q"] = q_in.has_value();
    return r[0].reshape({r[0].size(0), -1});
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const Operands o(
        saved[0], saved[1], saved[2], saved[3], ctx->saved_data["longest_query"].toInt(),
        ctx->saved_data["longest_key"].toInt(), heads, ctx->saved_data["p"].toDouble());
    const auto &factors = saved[4];
    const Result r{saved[5], saved[6], saved[7], saved[8]};
    const auto dout = grads[0].contiguous().view({grads[0].size(0), heads, -1});
    auto parts = takes_flash(o.q) ? flash_backward(o, dout, r) : efficient_backward(o, dout, r);
    for (auto &part : parts) part = part.reshape({part.size(0), -1});
    if (factors.defined()) parts[0] = parts[0] * factors;
    variable_list result(10);
    if (ctx->saved_data["own_q"].toBool()) {
      result[0] = at::cat({parts[2], parts[1]}, 1);
      result[1] = parts[0];
    } else {
      result[0] = at::cat({parts[2], parts[1], parts[0]}, 1);
    }
    return result;
  }
};

}  // namespace

extern "C" char *mcan_varlen_attention(Tensor **out, const Tensor *kv, const Tensor *q,
                                       const Tensor *query_starts, const Tensor *key_starts,
                                       const Tensor *present, int64_t longest_query,
                                       int64_t longest_key, int64_t heads, double p) {
  return guarded([&] {
    *out = new Tensor(VarlenAttention::apply(*kv, optional(q), *query_starts, *key_starts,
                                             optional(present), longest_query, longest_key, heads,
                                             p, is_recorded(kv, q)));
  });
}
