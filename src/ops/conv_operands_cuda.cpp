// Where operands of convolutions lie, and packing those that are constant.
#include "ops/conv_operands.h"

#include <cstring>

#include "ops/elements.h"

namespace trireme::cuda {

std::array<int64_t, 4> strides_of(const Type& t) {
  const Shape& s = t.shape;
  const bool planar = t.layout == Layout::kPlain && !layouts_agree(s);
  if (planar) return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
  return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
}

namespace {

template <class T> void pack(const WeightCopy& w, const T* from, T* to) {
  const int64_t taps = w.size[2] * w.size[3];
  std::memset(to, 0, w.bytes());
  for (int64_t o = 0; o < w.size[0]; ++o)
    for (int64_t c = 0; c < w.size[1]; ++c)
      for (int64_t tap = 0; tap < taps; ++tap)
        to[(o * taps + tap) * w.c + c] = from[(o * w.size[1] + c) * taps + tap];
}

}  // namespace

Weight weight_of(const Prepare& p, int input, const WeightCopy& copy, Scratch& scratch) {
  Weight w;
  w.copy = copy;
  w.copied = copy.size[2] * copy.size[3] > 1 || copy.from != copy.to || copy.o != copy.size[0] ||
             copy.c != copy.size[1];
  if (!w.copied) return w;
  const auto i = static_cast<size_t>(input);
  if (p.constant(i) == nullptr) {
    w.at = scratch.take(copy.bytes());
    return w;
  }
  const std::string tag = message("krsc", copy.size[0], " ", copy.size[1], " ", copy.o, " ", copy.c,
                                  " ", copy.size[2], " ", copy.size[3], " ", copy.to);
  w.shared = p.packed(i, tag, copy.bytes(), [&](const Array& t, void* to) {
    const Array from = t.to(copy.to);
    switch (size_of(copy.to)) {
      case 2:
        return pack(copy, static_cast<const uint16_t*>(from.data()), static_cast<uint16_t*>(to));
      case 4:
        return pack(copy, static_cast<const uint32_t*>(from.data()), static_cast<uint32_t*>(to));
      default:
        return pack(copy, static_cast<const uint64_t*>(from.data()), static_cast<uint64_t*>(to));
    }
  });
  return w;
}

Bias bias_of(const Prepare& p, int input, int64_t count, DType to, int64_t wanted,
             Scratch& scratch) {
  Bias b{.input = input, .to = to, .count = count, .wanted = wanted};
  const auto i = static_cast<size_t>(input);
  if (input >= 0) b.from = p.in(i).dtype;
  if (input >= 0 && p.constant(i) != nullptr) {
    const size_t bytes = static_cast<size_t>(wanted) * size_of(to);
    b.shared =
        p.packed(i, message("bias", to, " ", wanted), bytes, [&](const Array& t, void* there) {
          const Array converted = t.to(to);
          std::memset(there, 0, bytes);
          std::memcpy(there, converted.data(), converted.bytes());
        });
    return b;
  }
  b.copied = input < 0 || b.from != to || count != wanted;
  if (b.copied) b.at = scratch.take(static_cast<size_t>(wanted) * size_of(to));
  return b;
}

}  // namespace trireme::cuda
