// What a device does besides computing, through interfaces of libtorch that every build of it has: streams, events, copies
// from page-locked memory, seeds, free memory, and the precision of products. On a CPU, where nothing is asynchronous, the
// functions of streams and events do nothing.
#include "common.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

using at::Tensor;
using c10::Event;
using c10::impl::VirtualGuardImpl;
using mcan::guarded;

// As tch numbers devices: the index of a GPU, or negative.
at::Device device_of(int64_t gpu) { return gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<int8_t>(gpu)); }

c10::Stream current_stream(at::Device device) { return VirtualGuardImpl(device.type()).getStream(device); }

}  // namespace

extern "C" {

// TF32 or float32 for the products of float32 matrices; kernels that give the same bits every time, where that costs little.
char *mcan_prepare_cuda(bool tf32) {
  return guarded([&] {
    auto &context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setDeterministicCuDNN(true);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// Whether products of float32 matrices are TF32: 1 in cuBLAS, 2 in cuDNN, 3 in both.
int32_t mcan_tf32() {
  const auto &context = at::globalContext();
  return (context.allowTF32CuBLAS() ? 1 : 0) + (context.allowTF32CuDNN() ? 2 : 0);
}

char *mcan_seed(int64_t gpu, uint64_t seed) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(device_of(gpu));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

// Free memory of a GPU in bytes.
char *mcan_free_memory(int64_t gpu, uint64_t *bytes) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(at::kCUDA);
    *bytes = at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(static_cast<int8_t>(gpu)).first;
  });
}

// Most memory that libtorch has held on a GPU at once, in bytes.
char *mcan_peak_memory(int64_t gpu, uint64_t *bytes) {
  return guarded([&] {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<int8_t>(gpu));
    *bytes = stats.reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  });
}

// These bytes on a device. From page-locked memory the copy runs beside whatever the device computes, and nobody waits for
// it: libtorch keeps that memory until the copy is done.
char *mcan_send(Tensor **out, const void *bytes, int64_t count, int64_t gpu, bool pin) {
  return guarded([&] {
    const auto device = device_of(gpu);
    const bool pinned = pin && !device.is_cpu();
    auto host = at::empty({count}, at::TensorOptions().dtype(at::kByte).pinned_memory(pinned));
    if (count > 0) std::memcpy(host.mutable_data_ptr(), bytes, count);
    *out = new Tensor(host.to(device, /*non_blocking=*/pinned));
  });
}

// These bytes of the caller's as a tensor on the CPU, which frees them, or rather their owner, when it is done with them.
char *mcan_adopt(Tensor **out, void *bytes, int64_t count, void *owner, void (*free)(void *)) {
  return guarded([&] { *out = new Tensor(at::from_blob(bytes, {count}, [=](void *) { free(owner); }, at::kByte)); });
}

// The same values on the CPU, there once the device has come this far: see mcan_record_event.
char *mcan_fetch(Tensor **out, Tensor *tensor) {
  return guarded([&] { *out = new Tensor(tensor->to(at::kCPU, /*non_blocking=*/true)); });
}

// Gives the calling thread a stream of its own on the device.
char *mcan_take_side_stream(int64_t gpu) {
  return guarded([&] {
    if (gpu < 0) return;
    const VirtualGuardImpl guard(at::kCUDA);
    guard.exchangeStream(guard.getStreamFromGlobalPool(device_of(gpu)));
  });
}

// The moment when the work that the calling thread has given the device so far is done; null on a CPU.
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

// Whatever the calling thread gives the device from now on is done after `event`; the thread itself does not wait.
char *mcan_stream_wait(Event *event) {
  return guarded([&] {
    if (event) event->block(current_stream(event->device()));
  });
}

// The calling thread waits for `event`.
char *mcan_wait_for_event(Event *event) {
  return guarded([&] {
    if (event) event->synchronize();
  });
}

// The tensor, made on another thread's stream, is used on the calling thread's: its memory is not given to others before
// that work is done.
char *mcan_share_with_this_stream(Tensor *tensor) {
  return guarded([&] {
    const auto device = tensor->device();
    if (device.is_cpu()) return;
    VirtualGuardImpl(device.type()).recordDataPtrOnStream(tensor->storage().data_ptr(), current_stream(device));
  });
}

}  // extern "C"
