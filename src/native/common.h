// What the native files share: errors across the C interface, and one kernel compiled for several processors.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))

// KERNEL(name, (parameters), (arguments)) makes `name` out of the inline function `name_body`: compiled for each width of
// vectors, of which the first call takes the widest that this processor has.
#if defined(__x86_64__) && defined(__GNUC__)
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                                                                        \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) void NAME##_avx512 PARAMETERS {                \
    NAME##_body ARGUMENTS;                                                                                         \
  }                                                                                                                \
  __attribute__((target("avx2,fma"))) void NAME##_avx2 PARAMETERS { NAME##_body ARGUMENTS; }                       \
  void NAME##_default PARAMETERS { NAME##_body ARGUMENTS; }                                                        \
  void NAME PARAMETERS {                                                                                           \
    static const auto chosen = mcan::has_avx512() ? NAME##_avx512 : mcan::has_avx2() ? NAME##_avx2 : NAME##_default; \
    chosen ARGUMENTS;                                                                                              \
  }
#else
#define KERNEL(NAME, PARAMETERS, ARGUMENTS) \
  void NAME PARAMETERS { NAME##_body ARGUMENTS; }
#endif

namespace mcan {

#if defined(__x86_64__) && defined(__GNUC__)
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
inline bool has_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
inline bool has_bf16() { return false; }
#endif

// Calls `body(i)` for each i in [0, count), in whatever order, from all threads: each takes the next number when it is done
// with its last, so that a core which something else slows down does not hold up the others.
template <typename F>
void for_each(int64_t count, F &&body) {
  alignas(64) std::atomic<int64_t> next{0};  // alone in its cache line: the threads read what lies around it
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(i);
  });
}

// The same for stretches [first, last) of at most `size`.
template <typename F>
void for_each_stretch(int64_t count, int64_t size, F &&body) {
  for_each((count + size - 1) / size, [&](int64_t i) { body(i * size, std::min(count, (i + 1) * size)); });
}

// Runs `body`; null, or what went wrong, to be freed by the caller.
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
