// Pickle: a reader of the few forms that Paddle's training files use. It executes nothing: classes
// and functions are known by name or the file is refused.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/array.h"

namespace trireme {

// One object of a pickle. Objects may share parts, but are trees: no cycles, at most 100 deep.
class PickleValue {
 public:
  enum Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kBytes,
    kList,
    kTuple,
    kDict,
    kArray,
    kGlobal,
    kDType
  };  // the last two only while reading

  Kind kind = kNone;
  int64_t integer = 0;    // kBool (0 or 1), kInt
  double real = 0;        // kFloat
  std::string_view text;  // kString (UTF-8), kBytes; lives as long as the Pickle
  // kList, kTuple: the elements. kDict: keys at even places, their values behind them.
  std::vector<const PickleValue*> items;
  // kArray. NumPy's uint16 comes as bfloat16, its bits: Paddle stores bfloat16 so, and nothing
  // marks it. Complex numbers come as pairs: a further dimension of 2.
  Array array;
  std::string_view numpy_dtype;  // kArray: "f4", "u2", "c8"

  size_t entries() const { return items.size() / 2; }   // of a kDict
  const PickleValue* find(std::string_view key) const;  // of a kDict; null when not there
  const PickleValue& key(size_t i) const { return *items[2 * i]; }
  const PickleValue& value(size_t i) const { return *items[2 * i + 1]; }
};

std::string_view name_of(PickleValue::Kind kind);

// Owns the objects.
class Pickle {
 public:
  // Protocols 2, 3 and 4. Throws kInvalidArgument (with the file and the byte) for damage, for
  // every global but NumPy's array, dtype and scalar, OrderedDict, tuple and _codecs.encode, for
  // arrays of objects or records, for trailing bytes. Memory stays within a small multiple of the
  // file's size.
  Pickle(std::span<const char> bytes, const std::string& file);
  const PickleValue& root() const { return *root_; }

 private:
  friend class PickleMachine;
  std::deque<PickleValue> values_;
  std::deque<std::string> texts_;  // what stands nowhere in the file
  const PickleValue* root_ = nullptr;
};

}  // namespace trireme
