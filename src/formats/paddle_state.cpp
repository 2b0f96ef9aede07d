// Paddle's training files over the restricted pickle, and a writer of pickles.
#include "formats/paddle_state.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "formats/pickle.h"
#include "formats/pickle_opcodes.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kNames = "StructuredToParameterName@@";
constexpr std::string_view kSlices = "UnpackBigParamInfor@@";  // codespell:ignore
constexpr std::string_view kScheduler = "LR_Scheduler";
constexpr std::string_view kMasters = "master_weights";

// ---- reading

class StateReader {
 public:
  StateReader(const PickleValue& root, const std::string& file) : root_(root), file_(file) {}

  PaddleState read() {
    PaddleState out;
    if (root_.kind != PickleValue::kDict) {
      out.tensors.push_back(tensor("", root_));
      return out;
    }
    if (const PickleValue* slices = root_.find(kSlices)) join_slices(*slices, out);
    const auto names = parameter_names();
    for (size_t i = 0; i < root_.entries(); ++i) {
      const std::string_view key = text(root_.key(i), "a key");
      const PickleValue& value = root_.value(i);
      if (key == kNames || key == kSlices || parts_.contains(key)) continue;
      if (key == kScheduler) {
        out.scheduler = to_json(value).dump();
      } else if (key == kMasters) {
        read_masters(value, out);
      } else {
        out.tensors.push_back(tensor(std::string(key), value));
      }
    }
    for (PaddleTensor& t : out.tensors) {
      if (const auto it = names.find(t.key); it != names.end()) t.name = it->second;
    }
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(Code::kInvalidArgument, "not a state dict of Paddle: " + what, file_);
  }

  std::string_view text(const PickleValue& value, const char* what) const {
    if (value.kind != PickleValue::kString) {
      refuse(std::string(what) + " is a " + std::string(name_of(value.kind)));
    }
    return value.text;
  }

  // An array, or a tuple of a name and an array.
  PaddleTensor tensor(std::string key, const PickleValue& value) const {
    if (value.kind == PickleValue::kArray) return {std::move(key), {}, value.array};
    if (value.kind == PickleValue::kTuple && value.items.size() == 2 &&
        value.items[0]->kind == PickleValue::kString && value.items[1]->kind == PickleValue::kArray)
      return {std::move(key), std::string(value.items[0]->text), value.items[1]->array};
    refuse("'" + key + "' is a " + std::string(name_of(value.kind)) + ", a tensor expected");
  }

  std::unordered_map<std::string, std::string> parameter_names() const {
    std::unordered_map<std::string, std::string> names;
    const PickleValue* table = root_.find(kNames);
    if (table == nullptr) return names;
    if (table->kind != PickleValue::kDict) refuse(std::string(kNames) + " is no dict");
    for (size_t i = 0; i < table->entries(); ++i)
      names.emplace(text(table->key(i), "a key"), text(table->value(i), "a parameter's name"));
    return names;
  }

  void read_masters(const PickleValue& masters, PaddleState& out) const {
    if (masters.kind != PickleValue::kDict) refuse(std::string(kMasters) + " is no dict");
    for (size_t i = 0; i < masters.entries(); ++i) {
      const std::string key(text(masters.key(i), "a key"));
      out.master_weights.emplace_back(key, tensor(key, masters.value(i)).array);
    }
  }

  // Protocols 2 and 3: an array of more than a GiB is in pieces.
  void join_slices(const PickleValue& table, PaddleState& out) {
    if (table.kind != PickleValue::kDict) refuse(std::string(kSlices) + " is no dict");
    for (size_t i = 0; i < table.entries(); ++i) {
      const std::string key(text(table.key(i), "a key"));
      const PickleValue* dims = table.value(i).find("OriginShape");
      const PickleValue* parts = table.value(i).find("slices");
      if (dims == nullptr || dims->kind != PickleValue::kTuple || parts == nullptr ||
          parts->kind != PickleValue::kList || parts->items.empty() ||
          dims->items.size() > static_cast<size_t>(Shape::kMaxRank))
        refuse("the slices of '" + key + "' are not described properly");
      Shape shape;
      for (const PickleValue* dim : dims->items) {
        if (dim->kind != PickleValue::kInt || dim->integer < 0)
          refuse("the shape of '" + key + "' is malformed");
        shape.push_back(dim->integer);
      }
      out.tensors.push_back({key, {}, joined(key, shape, *parts)});
    }
  }

  Array joined(const std::string& key, const Shape& shape, const PickleValue& parts) {
    std::vector<Array> arrays;
    int64_t elements = 0;
    for (const PickleValue* part : parts.items) {
      const std::string_view name = text(*part, "the name of a slice");
      const PickleValue* value = root_.find(name);
      if (value == nullptr || !parts_.insert(name).second) {
        refuse("slice '" + std::string(name) + "' is missing or used twice");
      }
      arrays.push_back(tensor(std::string(name), *value).array);
      if (arrays.back().dtype() != arrays[0].dtype())
        refuse("the slices of '" + key + "' differ in dtype");
      elements += arrays.back().numel();
    }
    if (elements != shape.numel()) {
      refuse("the slices of '" + key + "' have " + std::to_string(elements) + " elements, " +
             shape.str() + " was promised");
    }
    Array whole(arrays[0].dtype(), shape);
    auto* to = static_cast<char*>(whole.data());
    for (const Array& a : arrays) {
      std::memcpy(to, a.data(), a.bytes());
      to += a.bytes();
    }
    return whole;
  }

  Json to_json(const PickleValue& value) const {
    switch (value.kind) {
      case PickleValue::kNone: return nullptr;
      case PickleValue::kBool: return value.integer != 0;
      case PickleValue::kInt: return value.integer;
      case PickleValue::kFloat: return value.real;
      case PickleValue::kString: return std::string(value.text);
      case PickleValue::kList:
      case PickleValue::kTuple: {
        Json list = Json::array();
        for (const PickleValue* item : value.items) list.push_back(to_json(*item));
        return list;
      }
      case PickleValue::kDict: {
        Json object = Json::object();
        for (size_t i = 0; i < value.entries(); ++i)
          object[std::string(text(value.key(i), "a key"))] = to_json(value.value(i));
        return object;
      }
      case PickleValue::kArray:
        if (value.array.numel() == 1) return value.array.to(DType::kFloat64).as<double>()[0];
        [[fallthrough]];
      default: refuse("the scheduler holds a " + std::string(name_of(value.kind)));
    }
  }

  const PickleValue& root_;
  const std::string& file_;
  std::unordered_set<std::string_view> parts_;  // keys that are slices of others
};

// ---- writing

class PickleWriter {
 public:
  explicit PickleWriter(const std::string& path) : out_(path) {
    op(PickleOp::kProto);
    number(uint8_t{4});
  }

  void finish() {
    op(PickleOp::kStop);
    out_.commit();
  }

  void op(PickleOp o) { number(static_cast<uint8_t>(o)); }
  template <class T> void number(T value) { out_.write(&value, sizeof(value)); }

  void text(std::string_view s) {
    if (s.size() < 256) {
      op(PickleOp::kShortBinUnicode);
      number(static_cast<uint8_t>(s.size()));
    } else {
      op(PickleOp::kBinUnicode);
      number(static_cast<uint32_t>(s.size()));
    }
    out_.write(s);
  }

  void integer(int64_t value) {
    if (value >= std::numeric_limits<int32_t>::min() &&
        value <= std::numeric_limits<int32_t>::max()) {
      op(PickleOp::kBinInt);
      number(static_cast<int32_t>(value));
    } else {
      op(PickleOp::kLong1);
      number(uint8_t{8});
      number(value);
    }
  }

  void real(double value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    op(PickleOp::kBinFloat);
    number(__builtin_bswap64(bits));
  }

  void truth(bool value) { op(value ? PickleOp::kNewTrue : PickleOp::kNewFalse); }

  void global(std::string_view module, std::string_view name) {
    text(module);
    text(name);
    op(PickleOp::kStackGlobal);
  }

  // numpy.core exists in NumPy 1, and in NumPy 2 for pickles like this one.
  void array(const Array& a) {
    static constexpr std::string_view kTypes[] = {"b1", "u1", "i1", "i2", "i4",
                                                  "i8", "f2", "u2", "f4", "f8"};
    global("numpy.core.multiarray", "_reconstruct");
    global("numpy", "ndarray");
    integer(0);
    op(PickleOp::kTuple1);
    bytes("b", 1);
    op(PickleOp::kTuple3);
    op(PickleOp::kReduce);
    op(PickleOp::kMark);
    integer(1);
    op(PickleOp::kMark);
    for (const int64_t dim : a.shape()) integer(dim);
    op(PickleOp::kTuple);
    dtype(kTypes[static_cast<size_t>(a.dtype())], size_of(a.dtype()));
    truth(false);
    bytes(a.data(), a.bytes());
    op(PickleOp::kTuple);
    op(PickleOp::kBuild);
  }

  void json(const Json& value) {
    if (value.is_object()) {
      op(PickleOp::kEmptyDict);
      op(PickleOp::kMark);
      for (const auto& [key, item] : value.items()) {
        text(key);
        json(item);
      }
      op(PickleOp::kSetItems);
    } else if (value.is_array()) {
      op(PickleOp::kEmptyList);
      op(PickleOp::kMark);
      for (const Json& item : value) json(item);
      op(PickleOp::kAppends);
    } else if (value.is_string()) {
      text(value.get_ref<const std::string&>());
    } else if (value.is_boolean()) {
      truth(value.get<bool>());
    } else if (value.is_number_integer()) {
      integer(value.get<int64_t>());
    } else if (value.is_number()) {
      real(value.get<double>());
    } else {
      op(PickleOp::kNone);
    }
  }

 private:
  void bytes(const void* data, size_t count) {
    if (count < 256) {
      op(PickleOp::kShortBinBytes);
      number(static_cast<uint8_t>(count));
    } else {
      op(PickleOp::kBinBytes8);
      number(static_cast<uint64_t>(count));
    }
    out_.write(data, count);
  }

  void dtype(std::string_view name, size_t size) {
    global("numpy", "dtype");
    text(name);
    truth(false);
    truth(true);
    op(PickleOp::kTuple3);
    op(PickleOp::kReduce);
    op(PickleOp::kMark);
    integer(3);
    text(size == 1 ? "|" : "<");
    for (int i = 0; i < 3; ++i) op(PickleOp::kNone);
    for (const int value : {-1, -1, 0}) integer(value);
    op(PickleOp::kTuple);
    op(PickleOp::kBuild);
  }

  FileWriter out_;
};

// Plain: bare arrays and a table of their names. Paddle reads the tuples of a name and an array
// that nested tensors are only in a file without that table, so there all tensors are tuples.
void write_tensors(PickleWriter& out, std::span<const PaddleTensor> tensors, bool plain) {
  std::unordered_set<std::string_view> keys;
  for (const PaddleTensor& t : tensors) {
    TRI_CHECK(!t.key.empty() && keys.insert(t.key).second,
              "[paddle state] the key '" + t.key + "' is empty or there twice");
    out.text(t.key);
    if (!plain) out.text(t.name.empty() ? t.key : t.name);
    out.array(t.array);
    if (!plain) out.op(PickleOp::kTuple2);
  }
  if (!plain) return;
  out.text(kNames);
  out.op(PickleOp::kEmptyDict);
  out.op(PickleOp::kMark);
  for (const PaddleTensor& t : tensors) {
    out.text(t.key);
    out.text(t.name.empty() ? t.key : t.name);
  }
  out.op(PickleOp::kSetItems);
}

}  // namespace

PaddleState read_paddle_state(std::span<const char> bytes, const std::string& file) {
  const Pickle pickle(bytes, file);
  return StateReader(pickle.root(), file).read();
}

PaddleState read_paddle_state(const std::string& path) {
  const MappedFile file(path);
  return read_paddle_state(file.bytes(), path);
}

void write_pdparams(const std::string& path, std::span<const PaddleTensor> tensors) {
  PickleWriter out(path);
  out.op(PickleOp::kEmptyDict);
  out.op(PickleOp::kMark);
  write_tensors(out, tensors, true);
  out.op(PickleOp::kSetItems);
  out.finish();
}

void write_pdopt(const std::string& path, const PaddleState& state) {
  Json scheduler;
  if (!state.scheduler.empty()) {
    scheduler = Json::parse(state.scheduler, nullptr, false);
    TRI_CHECK(scheduler.is_object(), "[paddle state] the scheduler is not a JSON object");
  }
  PickleWriter out(path);
  out.op(PickleOp::kEmptyDict);
  out.op(PickleOp::kMark);
  write_tensors(out, state.tensors, state.master_weights.empty());
  if (!state.scheduler.empty()) {
    out.text(kScheduler);
    out.json(scheduler);
  }
  if (!state.master_weights.empty()) {
    out.text(kMasters);
    out.op(PickleOp::kEmptyDict);
    out.op(PickleOp::kMark);
    for (const auto& [name, array] : state.master_weights) {
      out.text(name);
      out.text(name + "_fp32_master_0");
      out.array(array);
      out.op(PickleOp::kTuple2);
    }
    out.op(PickleOp::kSetItems);
  }
  out.op(PickleOp::kSetItems);
  out.finish();
}

}  // namespace trireme
