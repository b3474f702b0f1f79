// The few operations that libtorch has and tch does not bind, and the few that libtorch lacks.
//
// Each function takes and returns at::Tensor pointers as tch does, catches every C++ exception, and returns null or a
// message that the Rust face (mod.rs) frees with mcan_free.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// One binary for every x86-64: the loader picks the widest vectors that the processor has.
#define VECTORIZED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORIZED
#endif

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

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

// ---- counter-based random numbers ------------------------------------------------------------------------------

constexpr int64_t LANES = 16;            // counters that are advanced together
constexpr int64_t BLOCK = 4 * LANES;     // numbers that one step of all lanes yields

// Philox4x32-7 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The numbers of a block depend on
// seed, stream and block alone, so a mask can be drawn by any thread and again in the backward pass.
VECTORIZED
void philox_block(uint32_t *out, uint64_t seed, uint64_t stream, uint64_t block) {
  uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
  for (int64_t i = 0; i < LANES; i++) {
    uint64_t counter = block * LANES + i;
    c0[i] = static_cast<uint32_t>(counter);
    c1[i] = static_cast<uint32_t>(counter >> 32);
    c2[i] = static_cast<uint32_t>(stream);
    c3[i] = static_cast<uint32_t>(stream >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 7; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    for (int64_t i = 0; i < LANES; i++) {
      uint64_t p0 = uint64_t{0xD2511F53u} * c0[i], p1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(p0);
    }
  }
  std::memcpy(out, c0, sizeof c0);
  std::memcpy(out + LANES, c1, sizeof c1);
  std::memcpy(out + 2 * LANES, c2, sizeof c2);
  std::memcpy(out + 3 * LANES, c3, sizeof c3);
}

struct Mask {
  double p;
  uint64_t seed, stream;
  float scale() const { return static_cast<float>(1.0 / (1.0 - p)); }
  uint32_t threshold() const { return static_cast<uint32_t>(p * 4294967296.0); }
};

template <typename T, bool RELU>
void masked_copy(T *out, const T *in, int64_t count, Mask mask) {
  const float scale = mask.scale();
  const uint32_t threshold = mask.threshold();
  const int64_t blocks = (count + BLOCK - 1) / BLOCK;
  at::parallel_for(0, blocks, 256, [&](int64_t first, int64_t last) {
    uint32_t random[BLOCK];
    for (int64_t block = first; block < last; block++) {
      philox_block(random, mask.seed, mask.stream, block);
      const int64_t start = block * BLOCK, n = std::min(BLOCK, count - start);
      for (int64_t i = 0; i < n; i++) {
        float value = static_cast<float>(in[start + i]);
        bool keep = random[i] >= threshold && (!RELU || value > 0);
        out[start + i] = static_cast<T>(keep ? value * scale : 0.0f);
      }
    }
  });
}

template <bool RELU>
at::Tensor dropout_forward(const at::Tensor &input, Mask mask) {
  auto x = input.contiguous();
  auto y = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "mcan_dropout", [&] {
    masked_copy<scalar_t, RELU>(y.data_ptr<scalar_t>(), x.data_ptr<scalar_t>(), x.numel(), mask);
  });
  return y;
}

// Dropout whose mask is never stored: the backward pass draws it again.
struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, double p, int64_t seed, int64_t stream) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = seed;
    ctx->saved_data["stream"] = stream;
    return dropout_forward<false>(x, {p, static_cast<uint64_t>(seed), static_cast<uint64_t>(stream)});
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    Mask mask{ctx->saved_data["p"].toDouble(), static_cast<uint64_t>(ctx->saved_data["seed"].toInt()),
              static_cast<uint64_t>(ctx->saved_data["stream"].toInt())};
    return {dropout_forward<false>(grads[0], mask), Variable(), Variable(), Variable()};
  }
};

// ReLU and dropout in one pass. A kept output is positive and everything else is zero, so the output is its own mask.
struct ReluDropout : torch::autograd::Function<ReluDropout> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, double p, int64_t seed, int64_t stream) {
    Mask mask{p, static_cast<uint64_t>(seed), static_cast<uint64_t>(stream)};
    auto y = dropout_forward<true>(x, mask);
    ctx->saved_data["scale"] = static_cast<double>(mask.scale());
    ctx->save_for_backward({y});
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto y = ctx->get_saved_variables()[0];
    auto grad = at::threshold_backward(grads[0], y, 0).mul_(ctx->saved_data["scale"].toDouble());
    return {grad, Variable(), Variable(), Variable()};
  }
};

// ---- rows to and from a grid -----------------------------------------------------------------------------------

// grid[slots[i]] = rows[i], zero elsewhere. `slots` has no duplicates.
at::Tensor place(const at::Tensor &rows, const at::Tensor &slots, int64_t total) {
  auto sizes = rows.sizes().vec();
  sizes[0] = total;
  auto grid = at::zeros(sizes, rows.options());
  return grid.index_copy_(0, slots, rows.contiguous());
}

// Placing rows in a grid and taking them out are each other's adjoint, which autograd's own index operations (with their
// accumulating backward passes) do not know.
struct PlaceRows : torch::autograd::Function<PlaceRows> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &rows, const at::Tensor &slots, int64_t total) {
    ctx->save_for_backward({slots});
    return place(rows, slots, total);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {grads[0].contiguous().index_select(0, slots), Variable(), Variable()};
  }
};

struct TakeRows : torch::autograd::Function<TakeRows> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &grid, const at::Tensor &slots) {
    ctx->save_for_backward({slots});
    ctx->saved_data["total"] = grid.size(0);
    return grid.index_select(0, slots);
  }
  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto slots = ctx->get_saved_variables()[0];
    return {place(grads[0], slots, ctx->saved_data["total"].toInt()), Variable()};
  }
};

std::vector<at::Tensor> list(at::Tensor **tensors, int64_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; i++) out.push_back(*tensors[i]);
  return out;
}

}  // namespace

extern "C" {

void mcan_free(char *message) { std::free(message); }

// The cuDNN kernels that give the same bits every time, as the reference asks for too; the LSTM has others.
char *mcan_use_deterministic_cudnn() {
  return guarded([] { at::globalContext().setDeterministicCuDNN(true); });
}

char *mcan_dropout(at::Tensor **out, at::Tensor *x, double p, uint64_t seed, uint64_t stream) {
  return guarded([&] { *out = new at::Tensor(Dropout::apply(*x, p, int64_t(seed), int64_t(stream))); });
}

char *mcan_relu_dropout(at::Tensor **out, at::Tensor *x, double p, uint64_t seed, uint64_t stream) {
  return guarded([&] { *out = new at::Tensor(ReluDropout::apply(*x, p, int64_t(seed), int64_t(stream))); });
}

char *mcan_place_rows(at::Tensor **out, at::Tensor *rows, at::Tensor *slots, int64_t total) {
  return guarded([&] { *out = new at::Tensor(PlaceRows::apply(*rows, *slots, total)); });
}

char *mcan_take_rows(at::Tensor **out, at::Tensor *grid, at::Tensor *slots) {
  return guarded([&] { *out = new at::Tensor(TakeRows::apply(*grid, *slots)); });
}

// One fused pass of Adam over all parameters. `step` is the number of the step being taken (from 1), a 0-d float32
// tensor on the parameters' device.
char *mcan_fused_adam(at::Tensor **params, at::Tensor **grads, at::Tensor **exp_avgs, at::Tensor **exp_avg_sqs,
                      int64_t count, at::Tensor *step, double lr, double beta1, double beta2, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, count), g = list(grads, count), m = list(exp_avgs, count), v = list(exp_avg_sqs, count);
    std::vector<at::Tensor> steps(count, *step);
    at::_fused_adam_(p, g, m, v, {}, steps, lr, beta1, beta2, /*weight_decay=*/0.0, eps, /*amsgrad=*/false,
                     /*maximize=*/false);
  });
}

}  // extern "C"
