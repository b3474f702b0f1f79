// NCCL through libtorch. MCAN_NCCL is defined where build.rs has found libtorch_cuda and the
// headers of CUDA and NCCL.
#include "group.h"

#ifdef MCAN_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace mcan {

c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store> &store,
                                               int rank, int size, int8_t gpu,
                                               std::chrono::milliseconds timeout) {
#ifdef MCAN_NCCL
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  group->setBoundDeviceId(at::Device(at::kCUDA, gpu));
  return group;
#else
  TORCH_CHECK(false,
              "this program was built without the headers of CUDA and NCCL, so several GPUs cannot "
              "work together; build it with the libtorch that ./setup.sh installs on a machine "
              "with an NVIDIA driver");
#endif
}

}  // namespace mcan
