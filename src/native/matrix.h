// A view of a matrix of float32.
#pragma once

#include "common.h"

namespace mcan {

// Element (i, j) is at values[i * row + j * column].
struct Matrix {
  const float *values;
  int64_t rows, columns, row, column;

  // A view of a tensor (rows, columns).
  explicit Matrix(const Tensor &t)
      : values(t.const_data_ptr<float>()),
        rows(t.size(0)),
        columns(t.size(1)),
        row(t.stride(0)),
        column(t.stride(1)) {}
  Matrix(const float *values, int64_t rows, int64_t columns, int64_t row, int64_t column)
      : values(values), rows(rows), columns(columns), row(row), column(column) {}
  Matrix transposed() const { return {values, columns, rows, column, row}; }
};

}  // namespace mcan
