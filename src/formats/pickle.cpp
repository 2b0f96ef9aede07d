// Pickle: a stack machine over a whitelist, then a look at what came out.
#include "formats/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "formats/pickle_opcodes.h"
#include "trireme/error.h"

namespace trireme {
namespace {

constexpr int kMostDepth = 100;
constexpr size_t kMostValues = size_t{1} << 22;

// What a global name means here.
enum class Global : uint8_t { kReconstruct, kScalar, kArrayClass, kDType, kDict, kTuple, kEncode };

struct GlobalName {
  std::string_view module, name;
  Global global;
};
constexpr GlobalName kGlobals[] = {
    {"numpy.core.multiarray", "_reconstruct", Global::kReconstruct},
    {"numpy._core.multiarray", "_reconstruct", Global::kReconstruct},
    {"numpy.core.multiarray", "scalar", Global::kScalar},
    {"numpy._core.multiarray", "scalar", Global::kScalar},
    {"numpy", "ndarray", Global::kArrayClass},
    {"numpy", "dtype", Global::kDType},
    {"collections", "OrderedDict", Global::kDict},
    {"builtins", "dict", Global::kDict},
    {"__builtin__", "dict", Global::kDict},
    {"builtins", "tuple", Global::kTuple},
    {"__builtin__", "tuple", Global::kTuple},
    {"_codecs", "encode", Global::kEncode},
};

struct Element {
  std::string_view numpy;
  DType dtype;
  bool pair = false;  // complex
};
constexpr Element kElements[] = {
    {"b1", DType::kBool},    {"u1", DType::kUInt8},         {"i1", DType::kInt8},
    {"i2", DType::kInt16},   {"i4", DType::kInt32},         {"i8", DType::kInt64},
    {"f2", DType::kFloat16}, {"u2", DType::kBFloat16},      {"f4", DType::kFloat32},
    {"f8", DType::kFloat64}, {"c8", DType::kFloat32, true}, {"c16", DType::kFloat64, true}};

bool is_utf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[i + k]); };
    const unsigned char c = byte(0);
    const size_t more = c < 0x80   ? 0
                        : c < 0xc2 ? 9
                        : c < 0xe0 ? 1
                        : c < 0xf0 ? 2
                        : c < 0xf5 ? 3
                                   : 9;
    if (more > s.size() - i - 1) return false;
    for (size_t k = 1; k <= more; ++k)
      if ((byte(k) & 0xc0) != 0x80) return false;
    if ((c == 0xe0 && byte(1) < 0xa0) || (c == 0xed && byte(1) > 0x9f) ||
        (c == 0xf0 && byte(1) < 0x90) || (c == 0xf4 && byte(1) > 0x8f))
      return false;
    i += more + 1;
  }
  return true;
}

// Fortran's order into ours; `bytes` of one element.
void transpose_copy(const char* from, char* to, const Shape& shape, size_t bytes) {
  std::vector<int64_t> at(static_cast<size_t>(shape.rank()), 0);
  for (int64_t i = 0, count = shape.numel(); i < count; ++i) {
    int64_t place = 0;
    for (int d = 0; d < shape.rank(); ++d) place = place * shape[d] + at[static_cast<size_t>(d)];
    std::memcpy(to + static_cast<size_t>(place) * bytes, from + static_cast<size_t>(i) * bytes,
                bytes);
    for (int d = 0; d < shape.rank(); ++d) {
      if (++at[static_cast<size_t>(d)] < shape[d]) break;
      at[static_cast<size_t>(d)] = 0;
    }
  }
}

}  // namespace

// The stack holds objects; a mark is null. A class, function or dtype is an object of a kind of its
// own, an array that BUILD has not filled yet one without data; neither may remain at the end.
class PickleMachine {
 public:
  PickleMachine(Pickle& out, std::span<const char> bytes, const std::string& file)
      : out_(out),
        bytes_(bytes.data(), bytes.size()),
        file_(file),
        budget_(2 * bytes.size() + (size_t{1} << 20)) {}

  void run() {
    if (bytes_.empty()) damaged("the file is empty");
    if (take(1)[0] != '\x80') damaged("not a pickle of protocol 2 or later");
    const int protocol = static_cast<unsigned char>(take(1)[0]);
    if (protocol < 2 || protocol > 4) {
      damaged("protocol " + std::to_string(protocol) + " is not supported; 2, 3 and 4 are");
    }
    while (step(static_cast<PickleOp>(static_cast<unsigned char>(take(1)[0])))) {}
    if (at_ != bytes_.size()) {
      damaged(std::to_string(bytes_.size() - at_) + " bytes behind the end of the pickle");
    }
    check_values();
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    fail(Code::kInvalidArgument, "[pickle] " + what, file_ + ", byte " + std::to_string(at_));
  }

  // ---- bytes

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) {
      damaged("the file ends early: " + std::to_string(count) + " bytes expected, " +
              std::to_string(bytes_.size() - at_) + " left");
    }
    const std::string_view part = bytes_.substr(at_, count);
    at_ += count;
    return part;
  }

  template <class T> T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) damaged("a line does not end");
    const std::string_view text = take(end - at_);
    take(1);
    return text;
  }

  // What is not a view of the file counts against a budget: small files must not become large.
  void spend(uint64_t bytes) {
    if (bytes > budget_) damaged("the objects would be much larger than the file");
    budget_ -= bytes;
  }

  int64_t long_integer(size_t count) {
    if (count > 8) damaged("an integer of more than 64 bits");
    const std::string_view bytes = take(count);
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i)
      value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    if (count > 0 && count < 8 && (bytes[count - 1] & 0x80) != 0)
      value -= uint64_t{1} << (8 * count);
    return static_cast<int64_t>(value);
  }

  // ---- stack

  PickleValue* push(PickleValue::Kind kind) {
    if (out_.values_.size() >= kMostValues) damaged("too many objects");
    PickleValue& value = out_.values_.emplace_back();
    value.kind = kind;
    stack_.push_back(&value);
    return &value;
  }

  void push_text(PickleValue::Kind kind, std::string_view text) {
    if (kind == PickleValue::kString && !is_utf8(text)) damaged("a text is not UTF-8");
    push(kind)->text = text;
  }

  void push_items(PickleValue::Kind kind, std::vector<const PickleValue*> items) {
    if (kind == PickleValue::kDict && items.size() % 2 != 0) damaged("a key has no value");
    push(kind)->items = std::move(items);
  }

  PickleValue* pop() {
    PickleValue* value = top();
    stack_.pop_back();
    return value;
  }

  PickleValue* top() const {
    if (stack_.empty() || stack_.back() == nullptr) damaged("an object is missing on the stack");
    return stack_.back();
  }

  // The objects above the last mark, which goes too.
  std::vector<const PickleValue*> pop_marked() {
    size_t first = stack_.size();
    while (first > 0 && stack_[first - 1] != nullptr) --first;
    if (first == 0) damaged("no mark on the stack");
    std::vector<const PickleValue*> values(stack_.begin() + static_cast<std::ptrdiff_t>(first),
                                           stack_.end());
    stack_.resize(first - 1);
    return values;
  }

  std::vector<const PickleValue*> pop_some(size_t count) {
    std::vector<const PickleValue*> values(count);
    while (count-- > 0) values[count] = pop();
    return values;
  }

  void append(PickleValue::Kind kind, const std::vector<const PickleValue*>& items) {
    PickleValue* to = top();
    if (to->kind != kind) damaged("a " + std::string(name_of(kind)) + " is expected below");
    if (kind == PickleValue::kDict && items.size() % 2 != 0) damaged("a key has no value");
    to->items.insert(to->items.end(), items.begin(), items.end());
  }

  void remember(uint64_t slot) { memo_[slot] = top(); }

  void recall(uint64_t slot) {
    const auto it = memo_.find(slot);
    if (it == memo_.end()) damaged("memo entry " + std::to_string(slot) + " was never stored");
    stack_.push_back(it->second);
  }

  // ---- globals

  void push_global(std::string_view module, std::string_view name) {
    for (const GlobalName& known : kGlobals) {
      if (known.module != module || known.name != name) continue;
      push(PickleValue::kGlobal)->integer = static_cast<int64_t>(known.global);
      return;
    }
    const auto clean = [](std::string_view s) {
      std::string out(s.substr(0, 80));
      for (char& c : out) c = c < 32 || c > 126 ? '?' : c;
      return out;
    };
    damaged("it names '" + clean(module) + '.' + clean(name) +
            "', which is not allowed; nothing was executed");
  }

  void push_global_of_stack() {
    const auto names = pop_some(2);
    if (names[0]->kind != PickleValue::kString || names[1]->kind != PickleValue::kString) {
      damaged("a global is not named by texts");
    }
    push_global(names[0]->text, names[1]->text);
  }

  // A call of one of the known functions.
  void reduce() {
    const PickleValue* args = pop();
    const PickleValue* function = pop();
    if (function->kind != PickleValue::kGlobal || args->kind != PickleValue::kTuple) {
      damaged("a call of something that is no known function");
    }
    const auto& in = args->items;
    switch (static_cast<Global>(function->integer)) {
      case Global::kReconstruct:
        if (in.size() != 3 || in[0]->kind != PickleValue::kGlobal ||
            static_cast<Global>(in[0]->integer) != Global::kArrayClass)
          damaged("an array of another class than numpy.ndarray");
        push(PickleValue::kArray);
        return;
      case Global::kDType: return push_dtype(in);
      case Global::kScalar:
        if (in.size() != 2 || in[0]->kind != PickleValue::kDType) damaged("a malformed scalar");
        return fill(*push(PickleValue::kArray), kElements[in[0]->integer], Shape{}, *in[1], false);
      case Global::kDict:
        if (!in.empty()) damaged("a dictionary that is called with arguments");
        return push_items(PickleValue::kDict, {});
      case Global::kTuple:
        if (in.size() != 1 ||
            (in[0]->kind != PickleValue::kTuple && in[0]->kind != PickleValue::kList))
          damaged("tuple() of something that is no tuple");
        spend(in[0]->items.size() * sizeof(void*));
        return push_items(PickleValue::kTuple, in[0]->items);
      case Global::kEncode: return encode(in);
      case Global::kArrayClass: damaged("a call of numpy.ndarray");
    }
  }

  void push_dtype(const std::vector<const PickleValue*>& in) {
    if (in.empty() || in[0]->kind != PickleValue::kString) damaged("a dtype without a name");
    const auto known = std::ranges::find(kElements, in[0]->text, &Element::numpy);
    if (known == std::end(kElements)) {
      damaged("an array of dtype '" + std::string(in[0]->text.substr(0, 40)) +
              "', which is not supported");
    }
    push(PickleValue::kDType)->integer = known - std::begin(kElements);
  }

  // _codecs.encode(text, "latin1"): how protocol 2 writes bytes.
  void encode(const std::vector<const PickleValue*>& in) {
    if (in.size() != 2 || in[0]->kind != PickleValue::kString ||
        in[1]->kind != PickleValue::kString ||
        (in[1]->text != "latin1" && in[1]->text != "latin-1"))
      damaged("_codecs.encode of anything but a text to latin1");
    const std::string_view from = in[0]->text;
    spend(from.size());
    std::string& to = out_.texts_.emplace_back();
    to.reserve(from.size());
    for (size_t i = 0; i < from.size(); ++i) {
      const auto c = static_cast<unsigned char>(from[i]);
      if (c >= 0x80 && (c > 0xc3 || i + 1 >= from.size())) damaged("a text is not latin1");
      to +=
          c < 0x80 ? static_cast<char>(c) : static_cast<char>(((c & 3) << 6) | (from[++i] & 0x3f));
    }
    push_text(PickleValue::kBytes, to);
  }

  // ---- BUILD: the state of an array or a dtype

  void build() {
    const PickleValue* state = pop();
    PickleValue* target = top();
    if (target->kind == PickleValue::kDType) return check_dtype_state(*target, *state);
    if (target->kind != PickleValue::kArray || target->array.defined()) {
      damaged("only new arrays and dtypes have a state");
    }
    if (state->kind != PickleValue::kTuple || state->items.size() != 5) {
      damaged("an array's state is not a tuple of five");
    }
    const auto& in = state->items;
    if (in[1]->kind != PickleValue::kTuple || in[2]->kind != PickleValue::kDType ||
        in[3]->kind != PickleValue::kBool)
      damaged("an array's state is malformed");
    Shape shape;
    if (in[1]->items.size() >= static_cast<size_t>(Shape::kMaxRank)) {
      damaged("an array of " + std::to_string(in[1]->items.size()) + " dimensions");
    }
    for (const PickleValue* dim : in[1]->items) {
      if (dim->kind != PickleValue::kInt || dim->integer < 0)
        damaged("an array's shape is malformed");
      shape.push_back(dim->integer);
    }
    fill(*target, kElements[in[2]->integer], shape, *in[4], in[3]->integer != 0);
  }

  void check_dtype_state(const PickleValue& dtype, const PickleValue& state) const {
    if (state.kind != PickleValue::kTuple || state.items.size() < 8 ||
        state.items[1]->kind != PickleValue::kString)
      damaged("a dtype's state is malformed");
    const std::string_view order = state.items[1]->text;
    if (order != "<" && order != "|" && order != "=") damaged("numbers are not little-endian");
    for (size_t i = 2; i <= 4; ++i) {  // subdtype, names, fields
      if (state.items[i]->kind != PickleValue::kNone)
        damaged("an array of records ('" + std::string(kElements[dtype.integer].numpy) + "')");
    }
  }

  void fill(PickleValue& to, const Element& element, Shape shape, const PickleValue& data,
            bool fortran) {
    if (data.kind != PickleValue::kBytes) {
      damaged("an array's data is a " + std::string(name_of(data.kind)) + ", bytes expected");
    }
    uint64_t bytes = size_of(element.dtype) * (element.pair ? 2 : 1);
    const size_t one = bytes;
    for (const int64_t dim : shape) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes))
        damaged("an array's shape " + shape.str() + " overflows");
    }
    if (bytes != data.text.size()) {
      damaged("an array of shape " + shape.str() + " and dtype " + std::string(element.numpy) +
              " wants " + std::to_string(bytes) + " bytes, the file holds " +
              std::to_string(data.text.size()));
    }
    spend(bytes);
    const Shape plain = shape;
    if (element.pair) shape.push_back(2);
    to.array = Array(element.dtype, shape);
    to.numpy_dtype = element.numpy;
    if (bytes == 0) return;
    if (fortran && plain.rank() > 1) {
      transpose_copy(data.text.data(), static_cast<char*>(to.array.data()), plain, one);
    } else {
      std::memcpy(to.array.data(), data.text.data(), bytes);
    }
    if (element.dtype == DType::kBool) {
      for (uint64_t i = 0; i < bytes; ++i) to.array.as<uint8_t>()[i] &= 1;
    }
  }

  bool step(PickleOp op);
  void check_values();
  void check_value(const PickleValue& value) const;

  Pickle& out_;
  std::string_view bytes_;
  const std::string& file_;
  uint64_t budget_;
  size_t at_ = 0;
  std::vector<PickleValue*> stack_;
  std::unordered_map<uint64_t, PickleValue*> memo_;
};

// One operation; false behind the last.
bool PickleMachine::step(PickleOp op) {
  using V = PickleValue;
  switch (op) {
    case PickleOp::kFrame: take(8); break;
    case PickleOp::kMark: stack_.push_back(nullptr); break;
    case PickleOp::kPop:
      if (stack_.empty()) damaged("the stack is empty");
      stack_.pop_back();
      break;
    case PickleOp::kPopMark: pop_marked(); break;
    case PickleOp::kNone: push(V::kNone); break;
    case PickleOp::kNewTrue: push(V::kBool)->integer = 1; break;
    case PickleOp::kNewFalse: push(V::kBool); break;
    case PickleOp::kBinInt: push(V::kInt)->integer = number<int32_t>(); break;
    case PickleOp::kBinInt1: push(V::kInt)->integer = number<uint8_t>(); break;
    case PickleOp::kBinInt2: push(V::kInt)->integer = number<uint16_t>(); break;
    case PickleOp::kLong1: push(V::kInt)->integer = long_integer(number<uint8_t>()); break;
    case PickleOp::kBinFloat: {
      const auto bits = __builtin_bswap64(number<uint64_t>());
      std::memcpy(&push(V::kFloat)->real, &bits, sizeof(bits));
      break;
    }
    case PickleOp::kShortBinUnicode: push_text(V::kString, take(number<uint8_t>())); break;
    case PickleOp::kBinUnicode: push_text(V::kString, take(number<uint32_t>())); break;
    case PickleOp::kBinUnicode8: push_text(V::kString, take(number<uint64_t>())); break;
    case PickleOp::kShortBinBytes: push_text(V::kBytes, take(number<uint8_t>())); break;
    case PickleOp::kBinBytes: push_text(V::kBytes, take(number<uint32_t>())); break;
    case PickleOp::kBinBytes8: push_text(V::kBytes, take(number<uint64_t>())); break;
    case PickleOp::kEmptyList: push(V::kList); break;
    case PickleOp::kEmptyTuple: push(V::kTuple); break;
    case PickleOp::kEmptyDict: push(V::kDict); break;
    case PickleOp::kAppend: append(V::kList, pop_some(1)); break;
    case PickleOp::kAppends: append(V::kList, pop_marked()); break;
    case PickleOp::kSetItem: append(V::kDict, pop_some(2)); break;
    case PickleOp::kSetItems: append(V::kDict, pop_marked()); break;
    case PickleOp::kList: push_items(V::kList, pop_marked()); break;
    case PickleOp::kDict: push_items(V::kDict, pop_marked()); break;
    case PickleOp::kTuple: push_items(V::kTuple, pop_marked()); break;
    case PickleOp::kTuple1: push_items(V::kTuple, pop_some(1)); break;
    case PickleOp::kTuple2: push_items(V::kTuple, pop_some(2)); break;
    case PickleOp::kTuple3: push_items(V::kTuple, pop_some(3)); break;
    case PickleOp::kBinPut: remember(number<uint8_t>()); break;
    case PickleOp::kLongBinPut: remember(number<uint32_t>()); break;
    case PickleOp::kMemoize: remember(memo_.size()); break;
    case PickleOp::kBinGet: recall(number<uint8_t>()); break;
    case PickleOp::kLongBinGet: recall(number<uint32_t>()); break;
    case PickleOp::kGlobal: {
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case PickleOp::kStackGlobal: push_global_of_stack(); break;
    case PickleOp::kReduce: reduce(); break;
    case PickleOp::kBuild: build(); break;
    case PickleOp::kStop:
      out_.root_ = pop();
      if (!stack_.empty()) damaged("objects are left over at the end");
      return false;
    default: damaged("operation " + std::to_string(static_cast<int>(op)) + " is not allowed here");
  }
  return true;
}

// Depth first over what the root reaches, with a stack on the heap: refuses cycles, depth, parts
// that are shared so often that the tree would be huge, and leftovers of the machine.
void PickleMachine::check_values() {
  struct State {
    bool open = true;
    uint64_t size = 1;  // objects of its tree
  };
  std::unordered_map<const PickleValue*, State> seen;
  std::vector<std::pair<const PickleValue*, size_t>> path{{out_.root_, 0}};
  seen[out_.root_];
  while (!path.empty()) {
    auto& [value, next] = path.back();
    if (next == 0) check_value(*value);
    if (next == value->items.size()) {
      State& state = seen[value];
      state.open = false;
      for (const PickleValue* item : value->items) state.size += seen[item].size;
      if (state.size > 4 * kMostValues) damaged("its parts refer to each other too often");
      path.pop_back();
      continue;
    }
    const PickleValue* item = value->items[next++];
    const auto [it, fresh] = seen.try_emplace(item);
    if (!fresh && it->second.open) damaged("an object contains itself");
    if (!fresh) continue;
    if (path.size() >= kMostDepth) damaged("objects are nested too deeply");
    path.emplace_back(item, 0);
  }
}

void PickleMachine::check_value(const PickleValue& value) const {
  if (value.kind == PickleValue::kGlobal || value.kind == PickleValue::kDType ||
      (value.kind == PickleValue::kArray && !value.array.defined()))
    damaged("a class, function, dtype or unfinished array stands as an object");
  if (value.kind != PickleValue::kDict) return;
  std::unordered_set<std::string_view> names;
  for (size_t i = 0; i < value.entries(); ++i) {
    const PickleValue& key = value.key(i);
    if (key.kind != PickleValue::kString && key.kind != PickleValue::kInt) {
      damaged("a key is a " + std::string(name_of(key.kind)));
    }
    if (key.kind == PickleValue::kString && !names.insert(key.text).second) {
      damaged("the key '" + std::string(key.text.substr(0, 80)) + "' occurs twice");
    }
  }
}

const PickleValue* PickleValue::find(std::string_view name) const {
  if (kind != kDict) return nullptr;
  for (size_t i = 0; i < entries(); ++i)
    if (key(i).kind == kString && key(i).text == name) return &value(i);
  return nullptr;
}

std::string_view name_of(PickleValue::Kind kind) {
  static constexpr std::string_view kNames[] = {"None", "bool",  "int",    "float",
                                                "text", "bytes", "list",   "tuple",
                                                "dict", "array", "global", "dtype"};
  return kNames[kind];
}

Pickle::Pickle(std::span<const char> bytes, const std::string& file) {
  PickleMachine(*this, bytes, file).run();
}

}  // namespace trireme
