// Matrix products on the CPU, in float32 or with factors rounded to bfloat16 and float32 sums.
#pragma once

#include "common.h"

#include <c10/util/FunctionRef.h>

namespace mcan {

// Element (i, j) is at values[i * row + j * column]; one of the two strides is 1.
struct Matrix {
  const float *values;
  int64_t rows, columns, row, column;

  // All of a tensor (rows, columns) that lies row after row.
  explicit Matrix(const at::Tensor &t)
      : values(t.const_data_ptr<float>()), rows(t.size(0)), columns(t.size(1)), row(t.stride(0)), column(t.stride(1)) {}
  Matrix(const float *values, int64_t rows, int64_t columns, int64_t row, int64_t column)
      : values(values), rows(rows), columns(columns), row(row), column(column) {}
  Matrix transposed() const { return {values, columns, rows, column, row}; }
};

// Where a product goes: rows of `stride` numbers, to which it is added, or where it begins with `bias` (or with nothing).
struct Target {
  float *values;
  int64_t stride;
  const float *bias = nullptr;
  bool add = false;
};

enum class Factors { FLOAT, BFLOAT16 };

// c = a b. `finish(first, last)` is called once for all rows, a few at a time and from any thread, while they are in its cache.
void gemm(const Target &c, const Matrix &a, const Matrix &b, Factors factors,
          c10::function_ref<void(int64_t, int64_t)> finish = [](int64_t, int64_t) {});

}  // namespace mcan
