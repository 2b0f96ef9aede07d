// Paddings and layouts of Paddle's spatial operators.
#include "formats/spatial.h"

#include <algorithm>

#include "ops/shape.h"

namespace trireme {

std::vector<int64_t> pair_of(const Context& c, std::string_view name,
                             std::vector<int64_t> otherwise) {
  std::vector<int64_t> values = c.ints(name);
  if (values.empty()) return otherwise;
  if (values.size() == 1) values.push_back(values[0]);
  if (values.size() != 2 || values[0] <= 0 || values[1] <= 0) {
    c.refuse(std::string(name) + " must be two positive numbers");
  }
  return values;
}

std::vector<int64_t> resolve_paddings(const Context& c, const Value* x,
                                      const std::vector<int64_t>& kernel,
                                      const std::vector<int64_t>& strides,
                                      std::vector<int64_t>& dilations) {
  const std::string algorithm = c.text("padding_algorithm", "EXPLICIT");
  if (algorithm == "VALID") return {0, 0, 0, 0};
  if (algorithm == "SAME") {
    std::vector<int64_t> paddings;
    for (int i = 0; i < 2; ++i) {
      const auto k = static_cast<size_t>(i);
      const int64_t in = x->type.shape[i + 2];
      const int64_t out = (in + strides[k] - 1) / strides[k];
      const int64_t sum = std::max<int64_t>((out - 1) * strides[k] + kernel[k] - in, 0);
      paddings.push_back(sum / 2);
      paddings.push_back(sum - sum / 2);
    }
    dilations = {1, 1};
    return paddings;
  }
  if (algorithm != "EXPLICIT") c.refuse("padding_algorithm '" + algorithm + "' is not known");
  std::vector<int64_t> given = c.ints("paddings");
  if (given.empty()) return {0, 0, 0, 0};
  if (given.size() == 1) given.push_back(given[0]);
  if (given.size() == 2) return {given[0], given[0], given[1], given[1]};
  if (given.size() == 4) return given;
  // The form with a pair for each of four dimensions.
  if (given.size() == 8) {
    const size_t at = channels_last(c) ? 2 : 4;
    return {given[at], given[at + 1], given[at + 2], given[at + 3]};
  }
  c.refuse("paddings must be 2 or 4 numbers");
}

bool channels_last(const Context& c, std::string_view attr) {
  const std::string layout = c.text(attr, "NCHW");
  if (layout == "NHWC" || layout == "NDHWC" || layout == "NLC") return true;
  if (layout == "NCHW" || layout == "AnyLayout" || layout == "NCDHW" || layout == "NCL" ||
      layout == "ANY") {
    return false;
  }
  c.refuse(std::string(attr) + " '" + layout + "' is not supported");
}

Value* to_channels_first(Value* x) {
  std::vector<int64_t> perm{0, x->type.shape.rank() - 1};
  for (int i = 1; i < x->type.shape.rank() - 1; ++i) perm.push_back(i);
  return x->type.shape.rank() < 3 ? x : ops::transpose(x, perm);
}

Value* to_channels_last(Value* x) {
  std::vector<int64_t> perm{0};
  for (int i = 2; i < x->type.shape.rank(); ++i) perm.push_back(i);
  perm.push_back(1);
  return x->type.shape.rank() < 3 ? x : ops::transpose(x, perm);
}

}  // namespace trireme
