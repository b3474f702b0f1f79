// Replicas of a run that work together: libtorch's engine for that (c10d) behind a few functions. A store carries small
// texts between them, a group sums and gathers tensors, a reducer sums gradients while the backward pass still runs.
#define USE_C10D_GLOO
#include "common.h"
#include "group.h"

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

C10_DECLARE_int(caffe2_log_level);

namespace {

using at::Tensor;
using c10::intrusive_ptr;
using c10d::Backend;
using c10d::ProcessGroup;
using c10d::Reducer;
using mcan::guarded;
using std::chrono::milliseconds;

struct Store {
  intrusive_ptr<c10d::Store> store;
};

struct Group {
  intrusive_ptr<c10d::Store> store;
  intrusive_ptr<Backend> backend;
  intrusive_ptr<ProcessGroup> process_group;  // what the reducer takes
  intrusive_ptr<c10d::Work> last;             // the newest piece of work that nobody waits for
};

intrusive_ptr<Backend> gloo_backend(const intrusive_ptr<c10d::Store> &store, int rank, int size, const std::string &interface,
                            const std::string &address, milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                               : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
}

// Sums a bucket of gradients over the replicas. (The reducer's own way is to average them.)
class Sum : public c10d::CppCommHookInterface<intrusive_ptr<Backend>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;
  intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket &bucket) override {
    std::vector<Tensor> tensors = {bucket.getBufferRef()};
    return state_->allreduce(tensors)->getFuture();
  }
};

}  // namespace

extern "C" {

// Errors of the engine come back as messages: it need not write them by itself, nor, when a replica is lost, end the
// process instead of the work that waits for it.
void mcan_prepare_engine() {
  FLAGS_caffe2_log_level = 3;  // fatal
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/0);
}

// For replicas within this process.
char *mcan_store_here(Store **out) {
  return guarded([&] { *out = new Store{c10::make_intrusive<c10d::HashStore>()}; });
}

// For `size` processes that find each other at host:port, where one of them, or whatever started them, serves.
char *mcan_store_at(Store **out, const char *host, uint16_t port, bool serve, int64_t size, const char *prefix,
                    int64_t timeout_ms) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serve;
    options.numWorkers = size;
    options.timeout = milliseconds(timeout_ms);
    intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new Store{c10::make_intrusive<c10d::PrefixStore>(prefix, store)};
  });
}

void mcan_free_store(Store *store) { delete store; }

char *mcan_store_set(Store *store, const char *key, const char *text) {
  return guarded([&] { store->store->set(key, std::string(text)); });
}

// Waits until somebody has set it.
char *mcan_store_get(char **out, Store *store, const char *key) {
  return guarded([&] { *out = strdup(store->store->get_to_str(key).c_str()); });
}

// Joins the others of `store`: through NCCL on a GPU, through Gloo on a CPU, where `interface` or else `address` is
// this machine's on the network.
char *mcan_group_join(Group **out, Store *store, int rank, int size, int64_t gpu, const char *interface,
                      const char *address, int64_t timeout_ms) {
  return guarded([&] {
    const milliseconds timeout(timeout_ms);
    store->store->setTimeout(timeout);
    auto group = std::make_unique<Group>();
    group->store = store->store;
    const bool on_cpu = gpu < 0;
    group->backend = on_cpu ? gloo_backend(store->store, rank, size, interface, address, timeout)
                            : mcan::nccl_backend(store->store, rank, size, static_cast<int8_t>(gpu), timeout);
    group->process_group = c10::make_intrusive<ProcessGroup>(store->store, rank, size);
    const auto type = on_cpu ? ProcessGroup::BackendType::GLOO : ProcessGroup::BackendType::NCCL;
    group->process_group->setDefaultBackend(type);
    group->process_group->setBackend(on_cpu ? at::kCPU : at::kCUDA, type, group->backend);
    group->process_group->setGroupName("mcan");
    *out = group.release();
  });
}

void mcan_free_group(Group *group) { delete group; }

// tensor = its sum over all replicas. On a GPU that is there once the device has come this far.
char *mcan_all_reduce(Group *group, Tensor *tensor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<Tensor> tensors = {*tensor};
    group->last = group->backend->allreduce(tensors);
    group->last->wait();
  });
}

// (N, ...) what each replica has given, in order of rank.
char *mcan_all_gather(Tensor **out, Group *group, Tensor *tensor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const auto size = group->backend->getSize();
    auto shape = tensor->sizes().vec();
    shape.insert(shape.begin(), size);
    auto all = at::empty(shape, tensor->options());
    std::vector<std::vector<Tensor>> outputs = {all.unbind(0)};
    std::vector<Tensor> inputs = {tensor->contiguous()};
    group->last = group->backend->allgather(outputs, inputs);
    group->last->wait();
    *out = new Tensor(all);
  });
}

// The tensors of rank 0, for everybody.
char *mcan_broadcast(Group *group, Tensor **tensors, int64_t count) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    for (int64_t i = 0; i < count; i++) {
      std::vector<Tensor> one = {tensors[i]->detach()};
      group->backend->broadcast(one)->wait();
    }
  });
}

// Fails if the group has failed since somebody last waited for it. (On a GPU nobody waits.)
char *mcan_group_check(Group *group) {
  return guarded([&] {
    if (!group->last || !group->last->isCompleted()) return;
    if (auto failure = group->last->exception()) std::rethrow_exception(failure);
  });
}

// Sums the gradients of `params`, in buckets, in the backward passes that mcan_reducer_expect announces.
char *mcan_reducer_new(Reducer **out, Group *group, Tensor **params, int64_t count) {
  return guarded([&] {
    std::vector<Tensor> list;
    for (int64_t i = 0; i < count; i++) list.push_back(*params[i]);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        list, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap});
    // Gradients come from the last parameter to the first.
    std::reverse(buckets.begin(), buckets.end());
    auto reducer = std::make_unique<Reducer>(
        list, buckets, group->process_group, std::vector<bool>(count, false), c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>(),
        c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>());
    reducer->register_comm_hook(std::make_unique<Sum>(group->backend));
    *out = reducer.release();
  });
}

void mcan_free_reducer(Reducer *reducer) { delete reducer; }

// The next backward pass ends with the gradients' sums over all replicas in the parameters' grad.
char *mcan_reducer_expect(Reducer *reducer) {
  return guarded([&] {
    // After the first pass: buckets in the order in which gradients come, as rank 0 has seen it.
    reducer->rebuild_buckets();
    reducer->prepare_for_backward({});
  });
}

}  // extern "C"
