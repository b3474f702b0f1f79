// Shared by all native files: names of libtorch, errors across the C interface, loops over threads,
// and kernels that are compiled once for each width of vectors.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "mcan.h"

#define INLINE static inline __attribute__((always_inline))

// KERNEL(name, (parameters), (arguments)) defines `name` from the inline function `name_body`,
// which is compiled once for each width of vectors. The first call chooses the widest that this
// processor has.
#if defined(__x86_64__) && defined(__GNUC__)
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                                                  \
  __attribute__((                                                                            \
      target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) void NAME##_avx512 PARAMETERS {     \
    NAME##_body ARGUMENTS;                                                                   \
  }                                                                                          \
  __attribute__((target("avx2,fma"))) void NAME##_avx2 PARAMETERS { NAME##_body ARGUMENTS; } \
  void NAME##_default PARAMETERS { NAME##_body ARGUMENTS; }                                  \
  void NAME PARAMETERS {                                                                     \
    static const auto chosen = mcan::has_avx512() ? NAME##_avx512                            \
                               : mcan::has_avx2() ? NAME##_avx2                              \
                                                  : NAME##_default;                          \
    chosen ARGUMENTS;                                                                        \
  }
#else
#define KERNEL(NAME, PARAMETERS, ARGUMENTS) \
  void NAME PARAMETERS { NAME##_body ARGUMENTS; }
#endif

namespace mcan {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// ---- the processor ----

#if defined(__x86_64__) && defined(__GNUC__)
// The widest vectors that may be used, in bits. ATEN_CPU_CAPABILITY ("default" or "avx2") limits
// these kernels as it limits libtorch's own.
inline int64_t widest_allowed() {
  static const int64_t width = [] {
    const char *limit = std::getenv("ATEN_CPU_CAPABILITY");
    if (limit && std::strcmp(limit, "default") == 0) return 128;
    return limit && std::strcmp(limit, "avx2") == 0 ? 256 : 512;
  }();
  return width;
}
inline bool has_avx2() {
  return widest_allowed() >= 256 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
inline bool has_avx512() {
  return widest_allowed() >= 512 && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
inline bool has_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
inline bool is_intel() { return __builtin_cpu_is("intel"); }
#else
inline bool has_bf16() { return false; }
inline bool is_intel() { return false; }
#endif

// ---- arithmetic and arguments ----

inline int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

// The tensor behind a pointer of the C interface, which may be null.
inline std::optional<Tensor> optional(const Tensor *tensor) {
  return tensor ? std::optional<Tensor>(*tensor) : std::nullopt;
}

// Whether autograd records an operation on these tensors; the second may be null.
inline bool is_recorded(const Tensor *a, const Tensor *b) {
  return at::GradMode::is_enabled() && (a->requires_grad() || (b && b->requires_grad()));
}

// The `count` tensors behind an array of pointers.
inline std::vector<Tensor> list(const Tensor *const *tensors, int64_t count) {
  std::vector<Tensor> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; i++) out.push_back(*tensors[i]);
  return out;
}

// The values of a contiguous int32 tensor.
inline std::vector<int64_t> numbers(const Tensor &starts) {
  TORCH_CHECK(starts.scalar_type() == at::kInt && starts.is_contiguous(),
              "starts are int32 and contiguous");
  const int32_t *values = starts.const_data_ptr<int32_t>();
  return {values, values + starts.numel()};
}

// ---- threads ----

// Rows whose gradients of a shared parameter are summed first, so that the sum does not depend on
// the number of threads.
constexpr int64_t ROWS = 32;

// Calls `body(i)` for each i in [0, count), in any order, from all threads. A thread takes the next
// i when it has finished its last one, so that a core slowed down by other work does not delay the
// others.
template <typename F>
void for_each(int64_t count, F &&body) {
  alignas(64) std::atomic<int64_t> next{0};  // in a cache line of its own: no false sharing
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(i);
  });
}

// Calls `body(first, last)` for ranges of at most `size` that together are [0, count).
template <typename F>
void for_each_range(int64_t count, int64_t size, F &&body) {
  for_each(ceil_div(count, size),
           [&](int64_t i) { body(i * size, std::min(count, (i + 1) * size)); });
}

// ---- errors ----

// Runs `body`. Returns null, or the message of its exception, which the caller frees with
// mcan_free.
template <typename F>
char *guarded(F &&body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

}  // namespace mcan
