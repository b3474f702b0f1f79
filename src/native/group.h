// The part of group.cpp that needs the headers of CUDA.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace mcan {

c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store> &store,
                                               int rank, int size, int8_t gpu,
                                               std::chrono::milliseconds timeout);

}  // namespace mcan
