// Automatic mixed precision while operators are recorded: which inputs are cast.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace trireme {

struct AmpMode {
  DType half = DType::kFloat16;
  bool o2 = false;  // black are only the operators without half-precision kernels
  std::set<std::string, std::less<>> white{}, black{};  // the user's
};

// Of this thread; null: off.
const AmpMode* amp_mode();
void set_amp_mode(const AmpMode* mode);

// Sets this thread's mode for the life of the object; null switches it off.
class AmpScope {
 public:
  explicit AmpScope(const AmpMode* mode);
  ~AmpScope();
  AmpScope(const AmpScope&) = delete;
  AmpScope& operator=(const AmpScope&) = delete;

 private:
  const AmpMode* before_;
};

// Paddle's rule: white operators take half precision, black ones float32; others half unless an
// input is float32. Constants are what the rest is. Records casts with the current builder.
void amp_cast(const AmpMode& mode, const Op& op, std::vector<Value*>& inputs);

}  // namespace trireme
