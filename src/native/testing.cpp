// For tests, which check the calls to a GPU without a GPU. build.rs compiles this file into a
// library of its own, which only tests link.
//
// libtorch has no variable-length kernels for the CPU. The formula of attention takes their place,
// so that tests check everything that the callers pass, even the random state of the backward pass.
// This file also counts operations of libtorch.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/record_function.h>
#include <torch/library.h>

#include <map>

#include "common.h"

namespace {

using namespace mcan;
using Optional = std::optional<Tensor>;

// The factors of dropout for one sequence, (H, n, m), a function of the random state.
Tensor factors(const Tensor &like, double p, uint64_t seed, int64_t sequence) {
  if (p == 0.0) return at::ones_like(like);
  auto generator = at::detail::createCPUGenerator(seed + sequence);
  return at::empty_like(like).bernoulli_(1.0 - p, generator) / (1.0 - p);
}

Tensor heads_first(const Tensor &rows, int64_t first, int64_t last) {
  return rows.slice(0, first, last).to(at::kFloat).transpose(0, 1);  // (H, n, d)
}

// The log-sum-exp of sequence b: (H, n) of (H, R) or of (B, H, L).
Tensor place_of(const Tensor &log_sum, int64_t b, int64_t first, int64_t last) {
  return log_sum.dim() == 2 ? log_sum.slice(1, first, last) : log_sum[b].slice(1, 0, last - first);
}

struct Sequences {
  Tensor q, k, v;  // (R, H, d), (S, H, d)
  std::vector<int64_t> queries, keys;
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(q.size(2))); }
  int64_t count() const { return static_cast<int64_t>(queries.size()) - 1; }
  void check(int64_t longest_query, int64_t longest_key) const {
    int64_t most_queries = 0, most_keys = 0;
    for (int64_t b = 0; b < count(); b++) {
      most_queries = std::max(most_queries, queries[b + 1] - queries[b]);
      most_keys = std::max(most_keys, keys[b + 1] - keys[b]);
    }
    TORCH_CHECK(most_queries == longest_query && most_keys == longest_key,
                "the longest sequences are longer or shorter");
    TORCH_CHECK(q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1,
                "the last dimension is contiguous");
    TORCH_CHECK(q.scalar_type() == k.scalar_type() && k.scalar_type() == v.scalar_type(),
                "one kind");
  }
};

Tensor forward(const Sequences &s, double p, uint64_t seed, Tensor &log_sum) {
  const at::DisableRecordFunctionGuard uncounted;
  auto out = at::empty(s.q.sizes(), s.q.options());
  for (int64_t b = 0; b < s.count(); b++) {
    auto q = heads_first(s.q, s.queries[b], s.queries[b + 1]);
    auto k = heads_first(s.k, s.keys[b], s.keys[b + 1]),
         v = heads_first(s.v, s.keys[b], s.keys[b + 1]);
    auto scores = q.matmul(k.transpose(1, 2)) * s.scale();
    if (log_sum.defined())
      place_of(log_sum, b, s.queries[b], s.queries[b + 1]).copy_(scores.logsumexp(-1));
    auto map = scores.softmax(-1);
    out.slice(0, s.queries[b], s.queries[b + 1])
        .copy_((map * factors(map, p, seed, b)).matmul(v).transpose(0, 1));
  }
  return out;
}

std::array<Tensor, 3> backward(const Sequences &s, const Tensor &dout, const Tensor &out,
                               const Tensor &log_sum, double p, uint64_t seed) {
  const at::DisableRecordFunctionGuard uncounted;
  TORCH_CHECK(dout.scalar_type() == s.q.scalar_type() && dout.is_contiguous(),
              "the gradient is of the same kind");
  auto dq = at::empty(s.q.sizes(), s.q.options()), dk = at::empty(s.k.sizes(), s.k.options()),
       dv = at::empty_like(dk);
  for (int64_t b = 0; b < s.count(); b++) {
    const auto [first, last] = std::pair(s.queries[b], s.queries[b + 1]);
    auto q = heads_first(s.q, first, last), dy = heads_first(dout, first, last),
         y = heads_first(out, first, last);
    auto k = heads_first(s.k, s.keys[b], s.keys[b + 1]),
         v = heads_first(s.v, s.keys[b], s.keys[b + 1]);
    auto map =
        (q.matmul(k.transpose(1, 2)) * s.scale() - place_of(log_sum, b, first, last).unsqueeze(-1))
            .exp();
    auto mask = factors(map, p, seed, b);
    auto dmap = dy.matmul(v.transpose(1, 2)) * mask;
    auto dscores = map * (dmap - (dy * y).sum(-1, true)) * s.scale();
    dq.slice(0, first, last).copy_(dscores.matmul(k).transpose(0, 1));
    dk.slice(0, s.keys[b], s.keys[b + 1]).copy_(dscores.transpose(1, 2).matmul(q).transpose(0, 1));
    dv.slice(0, s.keys[b], s.keys[b + 1])
        .copy_((map * mask).transpose(1, 2).matmul(dy).transpose(0, 1));
  }
  return {dq, dk, dv};
}

uint64_t next_seed() {
  auto generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(generator)->random();
}

Tensor number(uint64_t value) {
  const at::DisableRecordFunctionGuard uncounted;
  return at::scalar_tensor(static_cast<int64_t>(value), at::kLong);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_forward(
    const Tensor &q, const Tensor &k, const Tensor &v, const Optional &query_starts,
    const Optional &key_starts, int64_t longest_query, int64_t longest_key, double p, bool causal,
    bool, std::optional<double> scale, std::optional<int64_t>, std::optional<int64_t>,
    const Optional &, const Optional &) {
  TORCH_CHECK(q.scalar_type() == at::kBFloat16 && q.dim() == 3 && !causal && !scale,
              "flash attention is for bfloat16");
  TORCH_CHECK(q.size(2) % 8 == 0 && q.size(2) <= 256, "heads of this size have no kernel");
  const Sequences s{q, k, v, numbers(*query_starts), numbers(*key_starts)};
  s.check(longest_query, longest_key);
  auto log_sum = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  const uint64_t seed = next_seed();
  auto out = forward(s, p, seed, log_sum);
  return {out, log_sum, number(seed), number(0), Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(
    const Tensor &dout, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &out,
    const Tensor &log_sum, const Tensor &query_starts, const Tensor &key_starts,
    int64_t longest_query, int64_t longest_key, double p, bool, const Tensor &state, const Tensor &,
    std::optional<double>, std::optional<int64_t>, std::optional<int64_t>) {
  TORCH_CHECK(at::globalContext().deterministicAlgorithms(),
              "the deterministic kernel was not asked for");
  const Sequences s{q, k, v, numbers(query_starts), numbers(key_starts)};
  s.check(longest_query, longest_key);
  auto [dq, dk, dv] = backward(s, dout, out, log_sum, p, *state.const_data_ptr<int64_t>());
  return {dq, dk, dv};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt> efficient_forward(
    const Tensor &q, const Tensor &k, const Tensor &v, const Optional &bias,
    const Optional &query_starts, const Optional &key_starts, std::optional<int64_t> longest_query,
    std::optional<int64_t> longest_key, double p, int64_t mask_type, bool keep,
    std::optional<double> scale, const Optional &, std::optional<int64_t>) {
  TORCH_CHECK(q.dim() == 4 && q.size(0) == 1 && mask_type == 0 && !bias && !scale,
              "one batch, no mask");
  const Sequences s{q[0], k[0], v[0], numbers(*query_starts), numbers(*key_starts)};
  s.check(*longest_query, *longest_key);
  const int64_t rounded = (*longest_query + 31) / 32 * 32;
  Tensor log_sum =
             at::empty({s.count(), q.size(2), keep ? rounded : 0}, q.options().dtype(at::kFloat)),
         none;
  const uint64_t seed = next_seed();
  auto out = forward(s, p, seed, keep ? log_sum : none);
  return {out.unsqueeze(0), log_sum, number(seed), number(0), *longest_query, *longest_key};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(
    const Tensor &dout, const Tensor &q, const Tensor &k, const Tensor &v, const Optional &,
    const Tensor &out, const Optional &query_starts, const Optional &key_starts,
    int64_t longest_query, int64_t longest_key, const Tensor &log_sum, double p,
    const Tensor &state, const Tensor &, int64_t, bool, std::optional<double>,
    std::optional<int64_t> splits, std::optional<int64_t>, bool) {
  TORCH_CHECK(splits == 1, "split keys are summed in any order");
  const Sequences s{q[0], k[0], v[0], numbers(*query_starts), numbers(*key_starts)};
  s.check(longest_query, longest_key);
  auto [dq, dk, dv] = backward(s, dout[0], out[0], log_sum, p, *state.const_data_ptr<int64_t>());
  return {dq.unsqueeze(0), dk.unsqueeze(0), dv.unsqueeze(0), Tensor()};
}

// ---- counting ----

thread_local std::map<std::string, int64_t> counts;
thread_local at::CallbackHandle counter = 0;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction &function) {
  counts[function.name()]++;
  return nullptr;
}

}  // namespace

extern "C" char *mcan_register_reference_kernels() {
  return guarded([] {
    static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__,
                                  __LINE__);
    library.impl("_flash_attention_forward", TORCH_FN(flash_forward));
    library.impl("_flash_attention_backward", TORCH_FN(flash_backward));
    library.impl("_efficient_attention_forward", TORCH_FN(efficient_forward));
    library.impl("_efficient_attention_backward", TORCH_FN(efficient_backward));
  });
}

extern "C" int32_t mcan_tf32() {
  const auto &context = at::globalContext();
  return (context.allowTF32CuBLAS() ? 1 : 0) + (context.allowTF32CuDNN() ? 2 : 0);
}

extern "C" char *mcan_begin_counting() {
  return guarded([] {
    counts.clear();
    counter = at::addThreadLocalCallback(
        at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  });
}

extern "C" char *mcan_end_counting() {
  at::removeCallback(counter);
  std::string text;
  for (const auto &[name, times] : counts) text += name + ' ' + std::to_string(times) + '\n';
  return strdup(text.c_str());
}
