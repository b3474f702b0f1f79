// Multi-head attention over ragged sequences on the CPU: each query sees the keys of its own
// sequence, without padding.
//
// A task is one head of one sequence, which fits the cache of a core: its rows are gathered into
// dense matrices, padded to whole vectors, and multiplied there.
#include <vector>

#include "mask.h"
#include "matrix.h"

namespace {

using namespace mcan;

constexpr int64_t WIDTH = 8;
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

int64_t padded(int64_t n) { return round_up(n, WIDTH); }

// ---- kernels ----

template <int R, int V>
INLINE void tile(float *c, int64_t c_row, const Matrix &a, const float *b, int64_t b_row,
                 int64_t depth) {
  Vector sums[R][V] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vector right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      right[v] = *reinterpret_cast<const Vector *>(b + k * b_row + v * WIDTH);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const float left = a.values[r * a.row + k * a.column];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sums[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) *reinterpret_cast<Vector *>(c + r * c_row + v * WIDTH) = sums[r][v];
}

template <int V>
INLINE void column_of_tiles(float *c, int64_t c_row, Matrix a, const float *b, int64_t b_row,
                            int64_t rows, int64_t depth) {
  for (; rows >= 6; rows -= 6, c += 6 * c_row, a.values += 6 * a.row)
    tile<6, V>(c, c_row, a, b, b_row, depth);
  for (; rows >= 1; rows -= 1, c += c_row, a.values += a.row)
    tile<1, V>(c, c_row, a, b, b_row, depth);
}

// c (rows, columns) = a (rows, depth) b (depth, columns); `columns` is a multiple of WIDTH.
INLINE void matmul_body(float *c, int64_t c_row, const Matrix *a, const float *b, int64_t b_row,
                        int64_t columns) {
  const int64_t rows = a->rows, depth = a->columns;
  int64_t j = 0;
  for (; j + 2 * WIDTH <= columns; j += 2 * WIDTH)
    column_of_tiles<2>(c + j, c_row, *a, b + j, b_row, rows, depth);
  if (j < columns) column_of_tiles<1>(c + j, c_row, *a, b + j, b_row, rows, depth);
}
KERNEL(matmul,
       (float *c, int64_t c_row, const Matrix *a, const float *b, int64_t b_row, int64_t columns),
       (c, c_row, a, b, b_row, columns))

// exp(x) for x <= 0, with an error of a few units in the last place: 2^n times the polynomial of
// Cephes' expf.
INLINE float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = __builtin_floorf(x * 1.44269504f + 0.5f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return y * power;
}

// Replaces the first `keys` scores of each row of `width` by their softmax, and the rest by 0.
INLINE void softmax_body(float *scores, int64_t rows, int64_t keys, int64_t width) {
  for (float *row = scores; row < scores + rows * width; row += width) {
    for (int64_t j = keys; j < width; j++) row[j] = -3e38f;
    float most[WIDTH], sums[WIDTH] = {};
    for (int64_t l = 0; l < WIDTH; l++) most[l] = row[l];
    for (int64_t j = WIDTH; j < width; j += WIDTH)
      for (int64_t l = 0; l < WIDTH; l++) most[l] = row[j + l] > most[l] ? row[j + l] : most[l];
    float largest = most[0];
    for (int64_t l = 1; l < WIDTH; l++) largest = most[l] > largest ? most[l] : largest;
    for (int64_t j = 0; j < width; j++) row[j] = exponential(row[j] - largest);
    for (int64_t j = keys; j < width; j++) row[j] = 0.0f;
    for (int64_t j = 0; j < width; j += WIDTH)
      for (int64_t l = 0; l < WIDTH; l++) sums[l] += row[j + l];
    float sum = 0.0f;
    for (int64_t l = 0; l < WIDTH; l++) sum += sums[l];
    const float inverse = 1.0f / sum;
    for (int64_t j = 0; j < width; j++) row[j] *= inverse;
  }
}
KERNEL(softmax, (float *scores, int64_t rows, int64_t keys, int64_t width),
       (scores, rows, keys, width))

// Turns gradients of the probabilities into gradients of the scores, in place.
INLINE void softmax_backward_body(float *grads, const float *probabilities, int64_t rows,
                                  int64_t width) {
  for (int64_t i = 0; i < rows; i++, grads += width, probabilities += width) {
    float sums[WIDTH] = {};
    for (int64_t j = 0; j < width; j += WIDTH)
      for (int64_t l = 0; l < WIDTH; l++) sums[l] += grads[j + l] * probabilities[j + l];
    float sum = 0.0f;
    for (int64_t l = 0; l < WIDTH; l++) sum += sums[l];
    for (int64_t j = 0; j < width; j++) grads[j] = (grads[j] - sum) * probabilities[j];
  }
}
KERNEL(softmax_backward, (float *grads, const float *probabilities, int64_t rows, int64_t width),
       (grads, probabilities, rows, width))

// ---- one head of one sequence ----

// Copies (rows, size) of a tensor with `stride` numbers per row, times `factor`, to (rows, padded
// size).
void gather(std::vector<float> &to, const float *from, int64_t stride, int64_t rows, int64_t size,
            float factor) {
  const int64_t width = padded(size);
  to.assign(rows * width, 0.0f);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < size; j++) to[i * width + j] = from[i * stride + j] * factor;
}

// Copies (rows, size) transposed, to (padded size, padded rows).
void gather_transposed(std::vector<float> &to, const float *from, int64_t stride, int64_t rows,
                       int64_t size) {
  const int64_t width = padded(rows);
  to.assign(padded(size) * width, 0.0f);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < size; j++) to[j * width + i] = from[i * stride + j];
}

// The inverse of gather.
void scatter(float *to, const std::vector<float> &from, int64_t stride, int64_t rows, int64_t size,
             float factor) {
  const int64_t width = padded(size);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < size; j++) to[i * stride + j] = from[i * width + j] * factor;
}

// The first rows of each sequence, and the offset of its attention maps.
struct Layout {
  int64_t batch, heads, size;          // size: width of a head
  std::vector<int64_t> queries, keys;  // (batch + 1) first rows
  std::vector<int64_t> maps;  // (batch + 1) offsets of the attention maps, multiples of BLOCK
  std::vector<float> scale;   // (batch) 1 / sqrt(size), or 0 for a sequence that is only padding

  Layout(const Tensor &query_starts, const Tensor &key_starts, const Tensor &present, int64_t heads,
         int64_t size)
      : batch(key_starts.numel() - 1),
        heads(heads),
        size(size),
        queries(numbers(query_starts)),
        keys(numbers(key_starts)),
        maps(batch + 1, 0),
        scale(batch, 1.0f / std::sqrt(static_cast<float>(size))) {
    for (int64_t b = 0; b < batch; b++) {
      maps[b + 1] = maps[b] + heads * map_size(b);
      if (present.defined()) scale[b] *= present.const_data_ptr<float>()[b];
    }
  }
  int64_t count(const std::vector<int64_t> &starts, int64_t b) const {
    return starts[b + 1] - starts[b];
  }
  int64_t map_size(int64_t b) const {
    return round_up(count(queries, b) * padded(count(keys, b)), BLOCK);
  }

  template <typename F>
  void for_each_head(F &&body) const {
    for_each(batch * heads, [&](int64_t task) { body(task / heads, task % heads); });
  }
};

// The columns of a tensor that hold all heads of v, k or q, or their gradients.
struct Columns {
  float *values;
  int64_t stride;
  Columns(const Tensor &t, int64_t first)
      : values(t.data_ptr<float>() + first), stride(t.size(1)) {}
  float *at(int64_t row, int64_t head, int64_t size) const {
    return values + row * stride + head * size;
  }
};

// kv holds v and k side by side, and q too where q_in is absent.
struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(AutogradContext *ctx, const Tensor &kv_in,
                        const std::optional<Tensor> &q_in, const Tensor &query_starts,
                        const Tensor &key_starts, const std::optional<Tensor> &present,
                        int64_t heads, Mask mask, bool keep) {
    auto kv = kv_in.to(at::kFloat).contiguous();
    auto q = q_in ? q_in->to(at::kFloat).contiguous() : kv;
    const int64_t hidden = q_in ? q.size(1) : kv.size(1) / 3, size = hidden / heads;
    const Layout layout(query_starts, key_starts, present.value_or(Tensor()), heads, size);
    const Columns v(kv, 0), k(kv, hidden), from(q, q_in ? 0 : 2 * hidden);
    auto out = at::empty({layout.queries.back(), hidden}, q.options());
    const Columns to(out, 0);
    auto maps = at::empty({keep ? layout.maps.back() : 0}, q.options());
    float *kept = maps.data_ptr<float>();
    layout.for_each_head([&](int64_t b, int64_t h) {
      thread_local std::vector<float> queries, keys, values, map, result;
      const int64_t n = layout.count(layout.queries, b), m = layout.count(layout.keys, b),
                    width = padded(m);
      const int64_t row = layout.queries[b], key = layout.keys[b], head_width = padded(size);
      gather(queries, from.at(row, h, size), from.stride, n, size, layout.scale[b]);
      gather_transposed(keys, k.at(key, h, size), k.stride, m, size);
      gather(values, v.at(key, h, size), v.stride, m, size, 1.0f);
      map.resize(n * width);
      const int64_t place = layout.maps[b] + h * layout.map_size(b);
      float *probabilities = keep ? kept + place : map.data();
      const Matrix left(queries.data(), n, size, head_width, 1);
      matmul(probabilities, width, &left, keys.data(), width, width);
      softmax(probabilities, n, m, width);
      if (mask.p > 0) masked(map.data(), probabilities, place, n * width, &mask);
      result.resize(n * head_width);
      const Matrix weights(mask.p > 0 ? map.data() : probabilities, n, m, width, 1);
      matmul(result.data(), head_width, &weights, values.data(), head_width, head_width);
      scatter(to.at(row, h, size), result, to.stride, n, size, 1.0f);
    });
    ctx->save_for_backward(
        {kv, q_in ? q : Tensor(), query_starts, key_starts, present.value_or(Tensor()), maps});
    ctx->saved_data["heads"] = heads;
    mask.save(ctx);
    ctx->saved_data["kind"] = static_cast<int64_t>(kv_in.scalar_type());
    return out.to(kv_in.scalar_type());
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &kv = saved[0], &own_q = saved[1];
    const Tensor &q = own_q.defined() ? own_q : kv;
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t hidden = own_q.defined() ? q.size(1) : kv.size(1) / 3, size = hidden / heads;
    const Layout layout(saved[2], saved[3], saved[4], heads, size);
    const Mask mask = Mask::saved(ctx);
    const float *maps = saved[5].const_data_ptr<float>();
    auto dout = grads[0].to(at::kFloat).contiguous();
    auto dkv = at::empty_like(kv), dq = own_q.defined() ? at::empty_like(q) : dkv;
    const int64_t q_column = own_q.defined() ? 0 : 2 * hidden;
    const Columns v(kv, 0), k(kv, hidden), from(q, q_column), dy(dout, 0);
    const Columns to_v(dkv, 0), to_k(dkv, hidden), to_q(dq, q_column);
    layout.for_each_head([&](int64_t b, int64_t h) {
      thread_local std::vector<float> queries, keys, values, incoming, map, scores, result;
      const int64_t n = layout.count(layout.queries, b), m = layout.count(layout.keys, b),
                    width = padded(m);
      const int64_t row = layout.queries[b], key = layout.keys[b], head_width = padded(size);
      const float scale = layout.scale[b];
      const int64_t place = layout.maps[b] + h * layout.map_size(b);
      const float *probabilities = maps + place;
      gather(queries, from.at(row, h, size), from.stride, n, size, scale);
      gather(keys, k.at(key, h, size), k.stride, m, size, 1.0f);
      gather_transposed(values, v.at(key, h, size), v.stride, m, size);
      gather(incoming, dy.at(row, h, size), dy.stride, n, size, 1.0f);
      map.resize(n * width);
      scores.resize(n * width);
      result.resize(std::max(n, m) * head_width);
      if (mask.p > 0) masked(map.data(), probabilities, place, n * width, &mask);
      const Matrix weights(mask.p > 0 ? map.data() : probabilities, n, m, width, 1);
      const Matrix weights_t = weights.transposed();
      matmul(result.data(), head_width, &weights_t, incoming.data(), head_width, head_width);
      scatter(to_v.at(key, h, size), result, to_v.stride, m, size, 1.0f);
      const Matrix left(incoming.data(), n, size, head_width, 1);
      matmul(scores.data(), width, &left, values.data(), width, width);
      if (mask.p > 0) masked(scores.data(), scores.data(), place, n * width, &mask);
      softmax_backward(scores.data(), probabilities, n, width);
      const Matrix grad(scores.data(), n, m, width, 1), grad_t = grad.transposed();
      matmul(result.data(), head_width, &grad, keys.data(), head_width, head_width);
      scatter(to_q.at(row, h, size), result, to_q.stride, n, size, scale);
      matmul(result.data(), head_width, &grad_t, queries.data(), head_width, head_width);
      scatter(to_k.at(key, h, size), result, to_k.stride, m, size, 1.0f);
    });
    const auto kind = static_cast<at::ScalarType>(ctx->saved_data["kind"].toInt());
    variable_list result(8);
    result[0] = dkv.to(kind);
    if (own_q.defined()) result[1] = dq.to(kind);
    return result;
  }
};

}  // namespace

extern "C" char *mcan_attention(Tensor **out, const Tensor *kv, const Tensor *q,
                                const Tensor *query_starts, const Tensor *key_starts,
                                const Tensor *present, int64_t heads, double p, uint64_t seed,
                                uint64_t stream) {
  return guarded([&] {
    *out =
        new Tensor(Attention::apply(*kv, optional(q), *query_starts, *key_starts, optional(present),
                                    heads, Mask{p, seed, stream}, is_recorded(kv, q)));
  });
}
