// The interface between the C++ of this folder and Rust: every function that Rust calls, declared
// once.
//
// Each .cpp includes this header, so the C++ compiler checks the definitions against it. ffi.rs
// repeats the declarations in Rust, and a test there compares the two: names, arguments with their
// types and order, and results. The test knows declarations of the form `result name(type name,
// ...);` and the types that it lists.
//
// A function that can fail returns a message, or null for success; the caller frees the message
// with mcan_free. Results are written to `out` before null is returned. Pointers are borrowed for
// the length of the call, unless a comment says otherwise. A device is the index of a GPU, or -1
// for the CPU.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
// Tensors cross the interface as tch passes them.
namespace at {
class Tensor;
struct Generator;
}  // namespace at
namespace c10 {
struct Event;
}
namespace c10d {
class Reducer;
}
typedef at::Tensor mcan_tensor;
typedef at::Generator mcan_generator;
typedef c10::Event mcan_event;
typedef c10d::Reducer mcan_reducer;
extern "C" {
#else
typedef struct mcan_tensor mcan_tensor;
typedef struct mcan_generator mcan_generator;
typedef struct mcan_event mcan_event;
typedef struct mcan_reducer mcan_reducer;
#endif
typedef struct mcan_store mcan_store;
typedef struct mcan_group mcan_group;
typedef void (*mcan_free_function)(void *);

// ---- common.cpp ----

// Frees a message or another text made by these functions.
void mcan_free(char *text);

// Whether the processor has instructions that multiply bfloat16 matrices, or MCAN_ROUND_TO_BF16 is
// set.
bool mcan_cpu_rounds_to_bf16(void);

// ---- linear.cpp, norm.cpp, attention.cpp: layers on the CPU ----

// x (R, in), weight (out, in), bias (out) -> (R, out): x Wᵀ + b; with `activate`, dropout(relu(x Wᵀ
// + b)).
char *mcan_linear(mcan_tensor **out, const mcan_tensor *x, const mcan_tensor *weight,
                  const mcan_tensor *bias, bool activate, double p, uint64_t seed, uint64_t stream,
                  bool bfloat16);

// x, any shape, float32 -> the same shape: dropout(x)
char *mcan_dropout(mcan_tensor **out, const mcan_tensor *x, double p, uint64_t seed,
                   uint64_t stream);

// x, s (R, D), a, b (D) -> (R, D), float32: norm(x + dropout(s)). `s` may be null.
char *mcan_residual_norm(mcan_tensor **out, const mcan_tensor *x, const mcan_tensor *s,
                         const mcan_tensor *a, const mcan_tensor *b, double p, uint64_t seed,
                         uint64_t stream);

// kv (S, 2 D), or (S, 3 D) where q is null; q (R, D) or null; starts (B + 1) int32; present (B)
// float32 or null -> (R, D)
char *mcan_attention(mcan_tensor **out, const mcan_tensor *kv, const mcan_tensor *q,
                     const mcan_tensor *query_starts, const mcan_tensor *key_starts,
                     const mcan_tensor *present, int64_t heads, double p, uint64_t seed,
                     uint64_t stream);

// ---- varlen.cpp: attention on a GPU ----

// The same shapes as mcan_attention.
char *mcan_varlen_attention(mcan_tensor **out, const mcan_tensor *kv, const mcan_tensor *q,
                            const mcan_tensor *query_starts, const mcan_tensor *key_starts,
                            const mcan_tensor *present, int64_t longest_query, int64_t longest_key,
                            int64_t heads, double p);

// ---- rows.cpp ----

// A zero tensor (total, ...) with rows (R, ...) at slots (R), which are all different.
char *mcan_pad_rows(mcan_tensor **out, const mcan_tensor *rows, const mcan_tensor *slots,
                    int64_t total);

// The rows (R, ...) of grid (total, ...) at slots (R), which are all different.
char *mcan_unpad_rows(mcan_tensor **out, const mcan_tensor *grid, const mcan_tensor *slots);

// ---- adam.cpp, weights.cpp ----

// Drops the gradients: the next backward pass stores its own instead of adding to zeros.
char *mcan_clear_grads(const mcan_tensor *const *params, int64_t count);

// One fused step of Adam over `count` parameters, in place. `step` is the number of this step, from
// 1: a 0-d float32 tensor on the device of the parameters.
char *mcan_fused_adam(const mcan_tensor *const *params, const mcan_tensor *const *grads,
                      const mcan_tensor *const *exp_avgs, const mcan_tensor *const *exp_avg_sqs,
                      int64_t count, const mcan_tensor *step, double lr, double beta1, double beta2,
                      double eps);

// out[i] is the concatenation of the next counts[i] of `params`, for i < groups.
char *mcan_join_and_cast(mcan_tensor **out, const mcan_tensor *const *params, const int64_t *counts,
                         int64_t groups, bool bfloat16);

// ---- random.cpp ----

char *mcan_new_generator(mcan_generator **out, uint64_t seed);
void mcan_free_generator(mcan_generator *generator);
char *mcan_draw_uniform(mcan_generator *generator, const mcan_tensor *tensor, double from,
                        double to);
char *mcan_draw_normal(mcan_generator *generator, const mcan_tensor *tensor, double mean,
                       double std);

// ---- device.cpp ----

// Sets TF32 or float32 for products of float32 matrices, and deterministic kernels where they cost
// little.
char *mcan_prepare_cuda(bool tf32);

// Seeds libtorch's default generator of the device.
char *mcan_seed(int64_t gpu, uint64_t seed);

// Free memory of a GPU in bytes.
char *mcan_free_memory(int64_t gpu, uint64_t *bytes);

// The largest amount of memory that libtorch has reserved on a GPU so far, in bytes.
char *mcan_peak_memory(int64_t gpu, uint64_t *bytes);

// Copies `count` bytes to the device. With `pin` the copy to a GPU is asynchronous, from
// page-locked memory, which libtorch keeps until the copy is done.
char *mcan_send(mcan_tensor **out, const void *bytes, int64_t count, int64_t gpu, bool pin);

// A tensor over `count` bytes of the caller's memory. libtorch calls free(owner) when the tensor is
// dropped.
char *mcan_adopt(mcan_tensor **out, void *bytes, int64_t count, void *owner,
                 mcan_free_function free);

// An asynchronous copy to the CPU. It is complete once an event recorded afterwards has been
// reached.
char *mcan_fetch(mcan_tensor **out, const mcan_tensor *tensor);

// Makes a stream from libtorch's pool the calling thread's current stream. Nothing to do on a CPU.
char *mcan_take_side_stream(int64_t gpu);

// Records an event on the calling thread's current stream; `out` is null on a CPU.
char *mcan_record_event(mcan_event **out, int64_t gpu);
void mcan_free_event(mcan_event *event);

// Makes the calling thread's current stream wait for `event`; the thread itself does not wait.
// `event` may be null.
char *mcan_stream_wait(mcan_event *event);

// Makes the calling thread wait for `event`, which may be null.
char *mcan_wait_for_event(mcan_event *event);

// Tells libtorch's allocator that the calling thread's current stream uses a tensor of another
// stream.
char *mcan_share_with_this_stream(const mcan_tensor *tensor);

// ---- group.cpp ----

// Makes c10d report failures as errors, without printing them or ending the process.
void mcan_prepare_engine(void);

// A store for replicas within this process.
char *mcan_store_here(mcan_store **out);

// A store for `size` processes that connect to host:port, where this process or another one serves.
char *mcan_store_at(mcan_store **out, const char *host, uint16_t port, bool serve, int64_t size,
                    const char *prefix, int64_t timeout_ms);
void mcan_free_store(mcan_store *store);
char *mcan_store_set(mcan_store *store, const char *key, const char *text);

// Waits until `key` is set. The caller frees the text.
char *mcan_store_get(char **out, mcan_store *store, const char *key);

// Joins the replicas of `store`, through NCCL on a GPU, through Gloo on a CPU. This machine's
// network interface is `interface`, or the one with `address` where `interface` is empty.
char *mcan_group_join(mcan_group **out, mcan_store *store, int32_t rank, int32_t size, int64_t gpu,
                      const char *interface, const char *address, int64_t timeout_ms);
void mcan_free_group(mcan_group *group);

// Replaces `tensor` by its sum over all replicas, asynchronously on a GPU.
char *mcan_all_reduce(mcan_group *group, const mcan_tensor *tensor);

// (N, ...) the tensors of all replicas in order of rank.
char *mcan_all_gather(mcan_tensor **out, mcan_group *group, const mcan_tensor *tensor);

// Replaces `tensors` by those of rank 0.
char *mcan_broadcast(mcan_group *group, const mcan_tensor *const *tensors, int64_t count);

// Fails if the newest operation of the group has failed. Does not wait for a GPU.
char *mcan_group_check(mcan_group *group);

// A reducer that sums the gradients of `params` over all replicas. It keeps the parameters.
char *mcan_new_reducer(mcan_reducer **out, mcan_group *group, const mcan_tensor *const *params,
                       int64_t count);
void mcan_free_reducer(mcan_reducer *reducer);

// Makes the next backward pass sum the gradients over all replicas.
char *mcan_reducer_expect(mcan_reducer *reducer);

// ---- testing.cpp: linked into tests only ----

// Registers the formula of attention as libtorch's missing variable-length kernels of the CPU.
char *mcan_register_reference_kernels(void);

// Whether float32 products may use TF32: 1 in cuBLAS, 2 in cuDNN, 3 in both.
int32_t mcan_tf32(void);

// Starts counting the calling thread's operations of libtorch.
char *mcan_begin_counting(void);

// Stops counting. A line "name count" for each operation, which the caller frees.
char *mcan_end_counting(void);

#ifdef __cplusplus
}  // extern "C"
#endif
