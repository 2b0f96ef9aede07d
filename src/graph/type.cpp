// Types and layouts.
#include "graph/type.h"

namespace trireme {

std::string Type::str() const {
  return std::string(name_of(dtype)) + shape.str() +
         (layout == Layout::kChannelsLast ? " nhwc" : "");
}

bool layouts_agree(const Shape& shape) {
  if (shape.rank() < 3) return true;
  int64_t spatial = 1;
  for (int i = 2; i < shape.rank(); ++i) spatial *= shape[i];
  return shape[1] == 1 || spatial == 1;
}

Shape physical_shape(const Type& type) {
  if (type.layout == Layout::kPlain || type.shape.rank() < 3) return type.shape;
  Shape p;
  p.push_back(type.shape[0]);
  for (int i = 2; i < type.shape.rank(); ++i) p.push_back(type.shape[i]);
  p.push_back(type.shape[1]);
  return p;
}

}  // namespace trireme
