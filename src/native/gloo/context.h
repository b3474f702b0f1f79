// The names of Gloo that libtorch's ProcessGroupGloo.hpp mentions. Gloo itself is inside libtorch_cpu; the headers that
// come with libtorch include Gloo's own, which do not come with it. None of these classes is made or laid out here:
// ProcessGroupGloo holds them by pointer, so that names are all it takes. The other headers in this folder are empty.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace rendezvous {
// The base of ProcessGroupGloo::GlooStore, whose inline functions override these. None of it is ever made here.
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string &key, const std::vector<char> &data) = 0;
  virtual std::vector<char> get(const std::string &key) = 0;
  virtual void wait(const std::vector<std::string> &keys) = 0;
  virtual void wait(const std::vector<std::string> &keys, const std::chrono::milliseconds &timeout) = 0;
};
}  // namespace rendezvous

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

}  // namespace gloo
