// Streams, events, copies from page-locked memory, seeds, free memory and the precision of
// products, through interfaces that every build of libtorch has. On a CPU, where nothing is
// asynchronous, the functions of streams and events do nothing.
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "common.h"

namespace {

using namespace mcan;
using c10::Event;
using c10::impl::VirtualGuardImpl;

// The device with the index of a GPU, or the CPU for a negative one.
at::Device device_of(int64_t gpu) {
  return gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<int8_t>(gpu));
}

c10::Stream current_stream(at::Device device) {
  return VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

extern "C" {

char *mcan_prepare_cuda(bool tf32) {
  return guarded([&] {
    auto &context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setDeterministicCuDNN(true);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

char *mcan_seed(int64_t gpu, uint64_t seed) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(device_of(gpu));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

char *mcan_free_memory(int64_t gpu, uint64_t *bytes) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(at::kCUDA);
    *bytes = at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(static_cast<int8_t>(gpu)).first;
  });
}

char *mcan_peak_memory(int64_t gpu, uint64_t *bytes) {
  return guarded([&] {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<int8_t>(gpu));
    *bytes =
        stats.reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  });
}

char *mcan_send(Tensor **out, const void *bytes, int64_t count, int64_t gpu, bool pin) {
  return guarded([&] {
    const auto device = device_of(gpu);
    const bool pinned = pin && !device.is_cpu();
    auto host = at::empty({count}, at::TensorOptions().dtype(at::kByte).pinned_memory(pinned));
    if (count > 0) std::memcpy(host.mutable_data_ptr(), bytes, count);
    *out = new Tensor(host.to(device, /*non_blocking=*/pinned));
  });
}

char *mcan_adopt(Tensor **out, void *bytes, int64_t count, void *owner, void (*free)(void *)) {
  return guarded([&] {
    *out = new Tensor(at::from_blob(
        bytes, {count}, [=](void *) { free(owner); }, at::kByte));
  });
}

char *mcan_fetch(Tensor **out, const Tensor *tensor) {
  return guarded([&] { *out = new Tensor(tensor->to(at::kCPU, /*non_blocking=*/true)); });
}

char *mcan_take_side_stream(int64_t gpu) {
  return guarded([&] {
    if (gpu < 0) return;
    const VirtualGuardImpl guard(at::kCUDA);
    guard.exchangeStream(guard.getStreamFromGlobalPool(device_of(gpu)));
  });
}

char *mcan_record_event(Event **out, int64_t gpu) {
  return guarded([&] {
    *out = nullptr;
    if (gpu < 0) return;
    auto event = std::make_unique<Event>(at::kCUDA);
    event->record(current_stream(device_of(gpu)));
    *out = event.release();
  });
}

void mcan_free_event(Event *event) { delete event; }

char *mcan_stream_wait(Event *event) {
  return guarded([&] {
    if (event) event->block(current_stream(event->device()));
  });
}

char *mcan_wait_for_event(Event *event) {
  return guarded([&] {
    if (event) event->synchronize();
  });
}

char *mcan_share_with_this_stream(const Tensor *tensor) {
  return guarded([&] {
    const auto device = tensor->device();
    if (device.is_cpu()) return;
    VirtualGuardImpl(device.type())
        .recordDataPtrOnStream(tensor->storage().data_ptr(), current_stream(device));
  });
}

}  // extern "C"
