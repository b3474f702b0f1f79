// Matrix products on the CPU, in float32 or with factors rounded to bfloat16 and float32 sums.
#pragma once

#include <c10/util/FunctionRef.h>

#include "matrix.h"

namespace mcan {

// The result of a product: rows of `stride` numbers. The product is added to them, or replaces
// them, plus `bias` if given.
struct Target {
  float *values;
  int64_t stride;
  const float *bias = nullptr;
  bool add = false;
};

enum class Factors { FLOAT, BFLOAT16 };

// c = a b, where one of the two strides of each factor is 1. Calls `finish(first, last)` for ranges
// of rows that together are all rows, from any thread, when the rows are complete and still in its
// cache.
void gemm(
    const Target &c, const Matrix &a, const Matrix &b, Factors factors,
    c10::function_ref<void(int64_t, int64_t)> finish = [](int64_t, int64_t) {});

}  // namespace mcan
