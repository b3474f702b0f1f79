// Random masks of dropout. A mask is a function of seed, stream and position and is never stored:
// any thread can draw any part of it, and the backward pass draws the same mask again.
#pragma once

#include "common.h"

namespace mcan {

constexpr int64_t LANES = 8;          // counters that are computed side by side
constexpr int64_t BLOCK = 8 * LANES;  // 16-bit random numbers of one round of all lanes

struct Mask {
  double p;
  uint64_t seed, stream;
  // The probability is rounded to 16 bits. The scale belongs to the rounded one, so that
  // expectations are exact.
  uint32_t threshold() const { return static_cast<uint32_t>(p * 65536.0 + 0.5); }
  float scale() const { return 65536.0f / static_cast<float>(65536 - threshold()); }

  void save(AutogradContext *ctx) const {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = int64_t(seed);
    ctx->saved_data["stream"] = int64_t(stream);
  }
  static Mask saved(AutogradContext *ctx) {
    auto &data = ctx->saved_data;
    return {data["p"].toDouble(), uint64_t(data["seed"].toInt()), uint64_t(data["stream"].toInt())};
  }
};

INLINE uint32_t rotate_left(uint32_t x, int bits) { return (x << bits) | (x >> (32 - bits)); }

// Threefry4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a generator
// of additions, rotations and xors: x[word][lane] for counters first, first + 1, ... under the key
// (seed, stream). Twelve rounds are the smallest number that passes every test of the paper.
template <int ROUNDS>
INLINE void threefry(uint32_t x[4][LANES], uint64_t first, uint64_t seed, uint64_t stream) {
  constexpr int rotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                   {6, 20},  {17, 11}, {25, 10}, {18, 20}};
  uint32_t key[5] = {uint32_t(seed), uint32_t(seed >> 32), uint32_t(stream), uint32_t(stream >> 32),
                     0x1BD11BDA};
  for (int i = 0; i < 4; i++) key[4] ^= key[i];
  for (int64_t lane = 0; lane < LANES; lane++) {
    x[0][lane] = uint32_t(first + lane) + key[0];
    x[1][lane] = uint32_t((first + lane) >> 32) + key[1];
    x[2][lane] = key[2];
    x[3][lane] = key[3];
  }
#pragma GCC unroll 20
  for (int round = 0; round < ROUNDS; round++) {
    const int a = round % 2 ? 3 : 1, b = 4 - a;
    for (int64_t lane = 0; lane < LANES; lane++) {
      x[0][lane] += x[a][lane];
      x[a][lane] = rotate_left(x[a][lane], rotations[round % 8][0]) ^ x[0][lane];
      x[2][lane] += x[b][lane];
      x[b][lane] = rotate_left(x[b][lane], rotations[round % 8][1]) ^ x[2][lane];
    }
    if (round % 4 == 3) {
      const uint32_t injection = round / 4 + 1;
      for (int word = 0; word < 4; word++) {
        const uint32_t add = key[(injection + word) % 5] + (word == 3 ? injection : 0);
        for (int64_t lane = 0; lane < LANES; lane++) x[word][lane] += add;
      }
    }
  }
}

// factors[i] = 0 or scale, for positions [first, first + count) of the mask. `first` is a multiple
// of BLOCK, and `factors` has room for `count` rounded up to a multiple of BLOCK.
INLINE void mask_factors(float *factors, int64_t first, int64_t count, const Mask &mask) {
  const int32_t last_dropped = static_cast<int32_t>(mask.threshold()) - 1;
  const float scale = mask.scale();
  for (int64_t start = 0; start < count; start += BLOCK) {
    uint32_t random[4][LANES];
    threefry<12>(random, static_cast<uint64_t>((first + start) / BLOCK * LANES), mask.seed,
                 mask.stream);
    for (int word = 0; word < 4; word++) {
      float *out = factors + start + 2 * LANES * word;
      for (int64_t lane = 0; lane < LANES; lane++) {
        // 1 for a kept position. Compilers would turn a comparison into branches.
        const int32_t low = static_cast<int32_t>(random[word][lane] & 0xffff),
                      high = random[word][lane] >> 16;
        out[lane] = scale * static_cast<float>(-((last_dropped - low) >> 31));
        out[LANES + lane] = scale * static_cast<float>(-((last_dropped - high) >> 31));
      }
    }
  }
}

// out = in * mask, where in[0] has position `first` of the mask, a multiple of BLOCK.
void masked(float *out, const float *in, int64_t first, int64_t count, const Mask *mask);

}  // namespace mcan
