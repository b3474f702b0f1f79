// Communication between the replicas of a run, through c10d of libtorch. A store carries small
// texts, a group sums and gathers tensors, a reducer sums gradients while the backward pass runs.
#define USE_C10D_GLOO
#include "group.h"

#include <unistd.h>

#include <exception>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "common.h"

C10_DECLARE_int(caffe2_log_level);

namespace {

using namespace mcan;
using c10::intrusive_ptr;
using c10d::Backend;
using c10d::ProcessGroup;
using c10d::Reducer;
using std::chrono::milliseconds;

intrusive_ptr<Backend> gloo_backend(const intrusive_ptr<c10d::Store> &store, int rank, int size,
                                    const std::string &interface, const std::string &address,
                                    milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(interface.empty()
                                 ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                 : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
}

// Sums a bucket of gradients over the replicas. (Without a hook the reducer averages them.)
class Sum : public c10d::CppCommHookInterface<intrusive_ptr<Backend>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;
  intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket &bucket) override {
    std::vector<Tensor> tensors = {bucket.getBufferRef()};
    return state_->allreduce(tensors)->getFuture();
  }
};

}  // namespace

namespace {

// Threads of Gloo and NCCL end the program when they throw. The message is the program's, and so is
// the status.
[[noreturn]] void end_with_a_message() {
  std::string reason = "its cause is not known";
  try {
    if (std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
  } catch (const std::exception &error) {
    reason = error.what();
  } catch (...) {
  }
  const char *remedy = "";
  if (reason.find("Too many open files") != std::string::npos) {
    reason = "too many open files";
    remedy = "; lower --NW, name fewer devices, or allow more open files (ulimit -n)";
  }
  const std::string message = "mcan: a thread that connects the devices of this run has failed: " +
                              reason.substr(0, reason.find('\n')) + remedy + "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message.data(), message.size());
  _exit(1);
}

}  // namespace

struct mcan_store {
  intrusive_ptr<c10d::Store> store;
};

struct mcan_group {
  intrusive_ptr<c10d::Store> store;
  intrusive_ptr<Backend> backend;
  intrusive_ptr<ProcessGroup> process_group;  // for the reducer
  intrusive_ptr<c10d::Work> last;             // the newest operation, for mcan_group_check
};

extern "C" {

void mcan_prepare_engine() {
  std::set_terminate(end_with_a_message);
  FLAGS_caffe2_log_level = 3;  // fatal
  // When a replica is lost, end the work that waits for it, not the process.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/0);
}

char *mcan_store_here(mcan_store **out) {
  return guarded([&] { *out = new mcan_store{c10::make_intrusive<c10d::HashStore>()}; });
}

char *mcan_store_at(mcan_store **out, const char *host, uint16_t port, bool serve, int64_t size,
                    const char *prefix, int64_t timeout_ms) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serve;
    options.numWorkers = size;
    options.timeout = milliseconds(timeout_ms);
    intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new mcan_store{c10::make_intrusive<c10d::PrefixStore>(prefix, store)};
  });
}

void mcan_free_store(mcan_store *store) { delete store; }

char *mcan_store_set(mcan_store *store, const char *key, const char *text) {
  return guarded([&] { store->store->set(key, std::string(text)); });
}

char *mcan_store_get(char **out, mcan_store *store, const char *key) {
  return guarded([&] { *out = strdup(store->store->get_to_str(key).c_str()); });
}

char *mcan_group_join(mcan_group **out, mcan_store *store, int32_t rank, int32_t size, int64_t gpu,
                      const char *interface, const char *address, int64_t timeout_ms) {
  return guarded([&] {
    const milliseconds timeout(timeout_ms);
    store->store->setTimeout(timeout);
    auto group = std::make_unique<mcan_group>();
    group->store = store->store;
    const bool on_cpu = gpu < 0;
    group->backend =
        on_cpu ? gloo_backend(store->store, rank, size, interface, address, timeout)
               : mcan::nccl_backend(store->store, rank, size, static_cast<int8_t>(gpu), timeout);
    group->process_group = c10::make_intrusive<ProcessGroup>(store->store, rank, size);
    const auto type = on_cpu ? ProcessGroup::BackendType::GLOO : ProcessGroup::BackendType::NCCL;
    group->process_group->setDefaultBackend(type);
    group->process_group->setBackend(on_cpu ? at::kCPU : at::kCUDA, type, group->backend);
    group->process_group->setGroupName("mcan");
    *out = group.release();
  });
}

void mcan_free_group(mcan_group *group) { delete group; }

char *mcan_all_reduce(mcan_group *group, const Tensor *tensor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<Tensor> tensors = {*tensor};
    group->last = group->backend->allreduce(tensors);
    group->last->wait();
  });
}

char *mcan_all_gather(Tensor **out, mcan_group *group, const Tensor *tensor) {
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

char *mcan_broadcast(mcan_group *group, const Tensor *const *tensors, int64_t count) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    for (int64_t i = 0; i < count; i++) {
      std::vector<Tensor> one = {tensors[i]->detach()};
      group->backend->broadcast(one)->wait();
    }
  });
}

char *mcan_group_check(mcan_group *group) {
  return guarded([&] {
    if (!group->last || !group->last->isCompleted()) return;
    if (auto failure = group->last->exception()) std::rethrow_exception(failure);
  });
}

char *mcan_new_reducer(Reducer **out, mcan_group *group, const Tensor *const *params,
                       int64_t count) {
  return guarded([&] {
    const auto tensors = list(params, count);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        tensors, {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap});
    // Gradients arrive from the last parameter to the first.
    std::reverse(buckets.begin(), buckets.end());
    auto reducer = std::make_unique<Reducer>(
        tensors, buckets, group->process_group, std::vector<bool>(count, false),
        c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true,
        std::unordered_map<size_t, std::string>(), c10d::kDefaultFirstBucketBytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<int64_t>());
    reducer->register_comm_hook(std::make_unique<Sum>(group->backend));
    *out = reducer.release();
  });
}

void mcan_free_reducer(Reducer *reducer) { delete reducer; }

char *mcan_reducer_expect(Reducer *reducer) {
  return guarded([&] {
    // Takes effect after the first pass: buckets in the order in which gradients arrived on rank 0.
    reducer->rebuild_buckets();
    reducer->prepare_for_backward({});
  });
}

}  // extern "C"
