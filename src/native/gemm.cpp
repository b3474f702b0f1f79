// Matrix products after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication"
// (ACM TOMS 34(3), 2008). Both factors are packed into strips in the order in which a kernel reads
// them: b once for all threads, a one block at a time. The kernel multiplies a strip of a by a
// strip of b and keeps the sums in registers.
//
// libtorch has products of its own, and linear.cpp uses them where they are known to be faster:
// MKL's in float32, on Intel's processors and for few rows. On processors of other makers MKL uses
// narrow vectors. oneDNN's in float32 are slower than these for the gradients of weights.
// libtorch's in bfloat16 are as fast, but need copies of all weights and inputs in bfloat16, and
// round their results; these products round the factors while packing them. docs/src/performance.md
// has figures.
#include "gemm.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include <vector>

namespace {

using namespace mcan;

constexpr int64_t DEPTH = 256;  // of a block; even
constexpr int64_t HEIGHT =
    192;  // of a block of a, about: its 192 KB and some strips of b fit the L2 cache
constexpr int64_t LINE = 64 / sizeof(float);  // numbers of a cache line

// ---- kernels: a tile of c from a strip of a and a strip of b ----

// Each row of the tile begins as `start`, or as the row of c where `start` is null.
using Kernel = void (*)(float *c, int64_t c_row, const float *a, const float *b, int64_t depth,
                        const float *start);

template <int WIDTH, int ROWS, int VECTORS>
INLINE void multiply(float *c, int64_t c_row, const float *a, const float *b, int64_t depth,
                     const float *start) {
  typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));
  Vector sums[ROWS][VECTORS];
  // c is prefetched now and added at the end.
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
      sums[r][v] = start ? *reinterpret_cast<const Vector *>(start + v * WIDTH) : Vector{};
      __builtin_prefetch(c + r * c_row + v * WIDTH, 1);
    }
  for (int64_t k = 0; k < depth; k++, a += ROWS, b += VECTORS * WIDTH) {
    Vector right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) right[v] = *reinterpret_cast<const Vector *>(b + v * WIDTH);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sums[r][v] += a[r] * right[v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
      Vector &to = *reinterpret_cast<Vector *>(c + r * c_row + v * WIDTH);
      to = start ? sums[r][v] : to + sums[r][v];
    }
}

// ---- packing ----

// The bits of the nearest bfloat16, ties to even, in the upper half; a NaN stays one.
INLINE uint32_t bf16_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t nearest = bits + 0x7fff + ((bits >> 16) & 1);
  return ((bits & 0x7fffffff) > 0x7f800000 ? bits | 0x400000 : nearest) & 0xffff0000;
}

template <bool TO_BF16>
INLINE float rounded(float value) {
  if (!TO_BF16) return value;
  const uint32_t bits = bf16_bits(value);
  __builtin_memcpy(&value, &bits, sizeof bits);
  return value;
}

// to[d][s] = from[s * along + d * down] for s < STRIP, d < depth; zero for s >= count. LOT values
// of s at a time, because the rows of a large matrix evict each other from the cache.
template <int64_t STRIP, bool TO_BF16>
INLINE void pack(float *to, const float *from, int64_t count, int64_t along, int64_t down,
                 int64_t depth) {
  constexpr int64_t LOT = STRIP % 8 == 0 ? 8 : 4;
  if (count >= STRIP && along == 1) {
    for (int64_t d = 0; d < depth; d++, to += STRIP, from += down)
      for (int64_t s = 0; s < STRIP; s++) to[s] = rounded<TO_BF16>(from[s]);
    return;
  }
  for (int64_t first = 0; first < STRIP; first += LOT, to += LOT, from += LOT * along) {
    if (first + LOT <= count) {
      for (int64_t d = 0; d < depth; d++)
#pragma GCC unroll 8
        for (int64_t s = 0; s < LOT; s++)
          to[d * STRIP + s] = rounded<TO_BF16>(from[s * along + d * down]);
    } else {
      for (int64_t d = 0; d < depth; d++)
        for (int64_t s = 0; s < LOT; s++)
          to[d * STRIP + s] =
              first + s < count ? rounded<TO_BF16>(from[s * along + d * down]) : 0.0f;
    }
  }
}

// The same in bfloat16, with the two numbers of a pair side by side: to[d / 2][s][d % 2].
template <int64_t STRIP>
INLINE void pack_pairs(float *to, const float *from, int64_t count, int64_t along, int64_t down,
                       int64_t depth) {
  auto pairs = reinterpret_cast<uint32_t *>(to);
  for (int64_t d = 0; d < depth; d += 2, pairs += STRIP, from += 2 * down) {
    const int64_t second = d + 1 < depth ? down : 0;
    const uint32_t kept = d + 1 < depth ? 0xffff0000 : 0;
    const int64_t present = count < STRIP ? count : STRIP;
    if (along == 1) {
      for (int64_t s = 0; s < present; s++)
        pairs[s] = (bf16_bits(from[s]) >> 16) | (bf16_bits(from[s + second]) & kept);
    } else {
      for (int64_t s = 0; s < present; s++)
        pairs[s] =
            (bf16_bits(from[s * along]) >> 16) | (bf16_bits(from[s * along + second]) & kept);
    }
    for (int64_t s = present; s < STRIP; s++) pairs[s] = 0;
  }
}

using Pack = void (*)(float *to, const float *from, int64_t count, int64_t along, int64_t down,
                      int64_t depth);

// Kernel and packing for one kind of processor. `pairs` numbers of a column share 32 bits of a
// strip.
struct Engine {
  int64_t rows, columns, pairs;
  Kernel kernel;
  Pack pack_a, pack_b;
};

// Defines the engines NAME and NAME_of_bf16. The latter rounds factors to bfloat16 and multiplies
// them in float32, for processors without instructions for bfloat16.
#define ENGINE(NAME, TARGET, WIDTH, ROWS, VECTORS)                                          \
  TARGET void NAME##_kernel(float *c, int64_t c_row, const float *a, const float *b,        \
                            int64_t depth, const float *start) {                            \
    multiply<WIDTH, ROWS, VECTORS>(c, c_row, a, b, depth, start);                           \
  }                                                                                         \
  PACK(NAME##_pack_a, TARGET, ROWS, false)                                                  \
  PACK(NAME##_pack_b, TARGET, WIDTH *VECTORS, false)                                        \
  PACK(NAME##_round_a, TARGET, ROWS, true)                                                  \
  PACK(NAME##_round_b, TARGET, WIDTH *VECTORS, true)                                        \
  const Engine NAME{ROWS, WIDTH * VECTORS, 1, NAME##_kernel, NAME##_pack_a, NAME##_pack_b}; \
  const Engine NAME##_of_bf16{ROWS,          WIDTH * VECTORS, 1,                            \
                              NAME##_kernel, NAME##_round_a,  NAME##_round_b};
#define PACK(NAME, TARGET, STRIP, TO_BF16)                                                   \
  TARGET void NAME(float *to, const float *from, int64_t count, int64_t along, int64_t down, \
                   int64_t depth) {                                                          \
    pack<STRIP, TO_BF16>(to, from, count, along, down, depth);                               \
  }

ENGINE(any_processor, , 4, 8, 2)

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))

ENGINE(avx2, AVX2, 8, 4, 3)
ENGINE(avx512, AVX512, 16, 8, 3)

// `multiply` with two numbers of a column at a time.
AVX512_BF16 void bf16_kernel(float *c, int64_t c_row, const float *a, const float *b, int64_t depth,
                             const float *start) {
  constexpr int ROWS = 8, VECTORS = 3, WIDTH = 16;
  __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++)
      sums[r][v] = _mm512_loadu_ps((start ? start : c + r * c_row) + v * WIDTH);
  for (int64_t k = 0; k < depth; k += 2, a += ROWS, b += VECTORS * WIDTH) {
    __m512i right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) right[v] = _mm512_loadu_si512(b + v * WIDTH);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      const __m512i left = _mm512_castps_si512(_mm512_set1_ps(a[r]));
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++)
        sums[r][v] =
            _mm512_dpbf16_ps(sums[r][v], reinterpret_cast<__m512bh &>(const_cast<__m512i &>(left)),
                             reinterpret_cast<__m512bh &>(right[v]));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(c + r * c_row + v * WIDTH, sums[r][v]);
}
AVX512_BF16 void bf16_pack_a(float *to, const float *from, int64_t count, int64_t along,
                             int64_t down, int64_t depth) {
  pack_pairs<8>(to, from, count, along, down, depth);
}
AVX512_BF16 void bf16_pack_b(float *to, const float *from, int64_t count, int64_t along,
                             int64_t down, int64_t depth) {
  pack_pairs<48>(to, from, count, along, down, depth);
}
const Engine avx512_bf16{8, 48, 2, bf16_kernel, bf16_pack_a, bf16_pack_b};

const Engine &engine(Factors factors) {
  const bool bf16 = factors == Factors::BFLOAT16;
  if (bf16 && mcan::has_bf16()) return avx512_bf16;
  if (mcan::has_avx512()) return bf16 ? avx512_of_bf16 : avx512;
  if (mcan::has_avx2()) return bf16 ? avx2_of_bf16 : avx2;
  return bf16 ? any_processor_of_bf16 : any_processor;
}
#else
const Engine &engine(Factors factors) {
  return factors == Factors::BFLOAT16 ? any_processor_of_bf16 : any_processor;
}
#endif

// Memory of a thread for repeated use, aligned to a cache line.
float *scratch(std::vector<float> &memory, int64_t count) {
  if (memory.size() < static_cast<size_t>(count + LINE)) memory.resize(count + LINE);
  constexpr uintptr_t bytes = LINE * sizeof(float);
  return reinterpret_cast<float *>((reinterpret_cast<uintptr_t>(memory.data()) + bytes - 1) /
                                   bytes * bytes);
}

// ---- blocks ----

struct Blocks {
  const Engine &with;
  const Target &c;
  const Matrix &a, &b;
  const float *packed_b, *start;  // start: the initial row of c, as wide as all strips of b
  int64_t strips;                 // number of strips of b

  // Size of a strip of b of this depth, in 32-bit words.
  int64_t words(int64_t depth) const { return ceil_div(depth, with.pairs) * with.columns; }

  // Computes rows [first, last) of c in the columns of strips [strip, end) of b.
  void block(int64_t first, int64_t last, int64_t strip, int64_t end) const {
    thread_local std::vector<float> memory;
    const int64_t groups = ceil_div(last - first, with.rows);
    float *packed_a = scratch(memory, groups * with.rows * DEPTH);
    for (int64_t k = 0; k < a.columns || k == 0; k += DEPTH) {
      const int64_t depth = std::min(DEPTH, a.columns - k),
                    group_words = ceil_div(depth, with.pairs) * with.rows;
      // A column-major a is packed 8 columns at a time, so that each cache line is used whole while
      // it is there.
      const int64_t step = a.row == 1 ? 8 : depth;
      for (int64_t d = 0; d < depth; d += step)
        for (int64_t g = 0; g < groups; g++) {
          const int64_t row = first + g * with.rows;
          with.pack_a(packed_a + g * group_words + ceil_div(d, with.pairs) * with.rows,
                      a.values + row * a.row + (k + d) * a.column, last - row, a.row, a.column,
                      std::min(step, depth - d));
        }
      const float *b_block = packed_b + strips * ceil_div(k, with.pairs) * with.columns;
      const bool begins = k == 0 && !c.add;
      for (int64_t s = strip; s < end; s++) {
        const float *right = b_block + s * words(depth);
        for (int64_t g = 0; g < groups; g++) {
          // Prefetch the next strip, a part of it with each group.
          if (s + 1 < end) fetch(right + words(depth), words(depth), g, groups);
          tile(first + g * with.rows, last, s, packed_a + g * group_words, right, depth, begins);
        }
      }
    }
  }

  // Prefetches part `g` of `groups` of a strip.
  static void fetch(const float *strip, int64_t words, int64_t g, int64_t groups) {
    const int64_t size = round_up(ceil_div(words, groups), LINE),
                  last = std::min(words, (g + 1) * size);
    for (int64_t i = g * size; i < last; i += LINE) __builtin_prefetch(strip + i, 0, 2);
  }

  void tile(int64_t row, int64_t last, int64_t strip, const float *left, const float *right,
            int64_t depth, bool begins) const {
    const int64_t column = strip * with.columns;
    const int64_t rows = std::min(with.rows, last - row),
                  columns = std::min(with.columns, b.columns - column);
    float *to = c.values + row * c.stride + column;
    const float *from = begins ? start + column : nullptr;
    if (rows == with.rows && columns == with.columns)
      return with.kernel(to, c.stride, left, right, depth, from);
    float all[8 * 48] = {};
    if (!begins)
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) all[i * with.columns + j] = to[i * c.stride + j];
    with.kernel(all, with.columns, left, right, depth, from);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) to[i * c.stride + j] = all[i * with.columns + j];
  }
};

}  // namespace

void mcan::gemm(const Target &c, const Matrix &a, const Matrix &b, Factors factors,
                c10::function_ref<void(int64_t, int64_t)> finish) {
  thread_local std::vector<float> memory_b, memory_start;
  const Engine &with = engine(factors);
  const int64_t strips = ceil_div(b.columns, with.columns), width = strips * with.columns;
  float *packed_b = scratch(memory_b, width * round_up(a.columns, 2) / with.pairs + width);
  float *start = scratch(memory_start, width);
  for (int64_t j = 0; j < width; j++) start[j] = c.bias && j < b.columns ? c.bias[j] : 0.0f;
  const Blocks blocks_of{with, c, a, b, packed_b, start, strips};

  for_each(strips * ceil_div(a.columns, DEPTH), [&](int64_t i) {
    const int64_t k = i / strips * DEPTH, strip = i % strips, column = strip * with.columns;
    const int64_t depth = std::min(DEPTH, a.columns - k);
    float *place =
        packed_b + strips * ceil_div(k, with.pairs) * with.columns + strip * blocks_of.words(depth);
    with.pack_b(place, b.values + k * b.row + column * b.column, b.columns - column, b.column,
                b.row, depth);
  });

  // Blocks of rows that fit the cache of a core, equally many for each thread. Low blocks are cut
  // across instead.
  const int64_t threads = at::get_num_threads(),
                blocks = round_up(ceil_div(std::max<int64_t>(a.rows, 1), HEIGHT), threads);
  const int64_t lowest =
      std::max(with.rows, std::min<int64_t>(HEIGHT / 2, round_up(a.rows, with.rows)));
  const int64_t height = std::max(lowest, round_up(ceil_div(a.rows, blocks), with.rows));
  const int64_t down = ceil_div(a.rows, height);
  const int64_t across = std::min(strips, ceil_div(2 * threads, std::max<int64_t>(down, 1)));
  for_each(down * across, [&](int64_t i) {
    const int64_t first = i / across * height, last = std::min(a.rows, first + height),
                  part = i % across;
    blocks_of.block(first, last, strips * part / across, strips * (part + 1) / across);
    if (across == 1) finish(first, last);
  });
  if (across > 1) for_each_range(a.rows, with.rows, finish);
}
