// Safetensors: a 64-bit length, a JSON header, the data without gaps.
#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "trireme/error.h"

namespace trireme {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostHeader = 100'000'000;
constexpr std::string_view kMetadata = "__metadata__";

struct Kind {
  std::string_view name;
  DType dtype;
};
constexpr Kind kKinds[] = {{"BOOL", DType::kBool},   {"U8", DType::kUInt8},
                           {"I8", DType::kInt8},     {"I16", DType::kInt16},
                           {"I32", DType::kInt32},   {"I64", DType::kInt64},
                           {"F16", DType::kFloat16}, {"BF16", DType::kBFloat16},
                           {"F32", DType::kFloat32}, {"F64", DType::kFloat64}};

struct Entry {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  uint64_t begin = 0, end = 0;
};

class Reader {
 public:
  Reader(std::span<const char> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  Safetensors read() {
    const Json header = read_header();
    Safetensors out;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadata) {
        read_metadata(value, out.metadata);
      } else {
        entries.push_back(read_entry(name, value));
      }
    }
    // An empty array has the offset of whoever comes next.
    std::ranges::stable_sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
    uint64_t at = 0;
    for (const Entry& e : entries) {
      if (e.begin != at) {
        damaged("array '" + e.name + "' starts at " + std::to_string(e.begin) + ", " +
                (e.begin < at ? "inside the one before" : "behind a gap") + " that ends at " +
                std::to_string(at));
      }
      at = e.end;
    }
    if (at != data_.size()) {
      damaged("the header tells of " + std::to_string(at) + " bytes of data, the file holds " +
              std::to_string(data_.size()));
    }
    for (const Entry& e : entries) {
      Array array(e.dtype, e.shape);
      if (e.end > e.begin) std::memcpy(array.data(), data_.data() + e.begin, e.end - e.begin);
      out.arrays.emplace_back(e.name, std::move(array));
    }
    return out;
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    fail(Code::kInvalidArgument, "not a safetensors file that can be read: " + what, file_);
  }

  Json read_header() {
    uint64_t length = 0;
    if (bytes_.size() < sizeof(length)) damaged("it is too short");
    std::memcpy(&length, bytes_.data(), sizeof(length));
    if (length > kMostHeader || length > bytes_.size() - sizeof(length)) {
      damaged("a header of " + std::to_string(length) + " bytes is absurd");
    }
    const auto text = bytes_.subspan(sizeof(length), length);
    data_ = bytes_.subspan(sizeof(length) + length);
    // The parser would silently let the later of two equal keys win.
    std::vector<std::unordered_set<std::string>> keys;
    const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > 8) damaged("the header is nested too deeply");
      if (event == Json::parse_event_t::object_start) keys.emplace_back();
      if (event == Json::parse_event_t::object_end) keys.pop_back();
      if (event == Json::parse_event_t::key &&
          !keys.back().insert(value.get_ref<const std::string&>()).second) {
        damaged("the name '" + value.get_ref<const std::string&>() + "' occurs twice");
      }
      return true;
    };
    Json header;
    try {
      header = Json::parse(text.begin(), text.end(), check);
    } catch (const Json::exception&) { damaged("its header is not JSON"); }
    if (!header.is_object()) damaged("its header is not a JSON object");
    return header;
  }

  void read_metadata(const Json& value, Metadata& to) const {
    if (!value.is_object()) damaged("__metadata__ is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) damaged("__metadata__ '" + key + "' is not a text");
      to[key] = text.get<std::string>();
    }
  }

  uint64_t number(const Json& value, const std::string& name) const {
    if (!value.is_number_unsigned()) damaged("array '" + name + "': not a count");
    return value.get<uint64_t>();
  }

  Entry read_entry(const std::string& name, const Json& value) const {
    const auto part = [&](const char* key) -> const Json& {
      const auto it = value.is_object() ? value.find(key) : value.end();
      if (!value.is_object() || it == value.end()) {
        damaged("array '" + name + "' has no " + key);
      }
      return *it;
    };
    Entry e;
    e.name = name;
    const Json &dtype = part("dtype"), &shape = part("shape"), &offsets = part("data_offsets");
    if (value.size() != 3) damaged("array '" + name + "' has members that are not known");
    if (!dtype.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2) {
      damaged("array '" + name + "' is not described properly");
    }
    const auto& kind = dtype.get_ref<const std::string&>();
    const auto found = std::ranges::find(kKinds, std::string_view(kind), &Kind::name);
    if (found == std::end(kKinds)) {
      fail(Code::kUnimplemented,
           "array '" + name + "': element type '" + kind + "' is not supported", file_);
    }
    e.dtype = found->dtype;
    if (shape.size() > static_cast<size_t>(Shape::kMaxRank)) {
      damaged("array '" + name + "' has " + std::to_string(shape.size()) + " dimensions");
    }
    uint64_t bytes = size_of(e.dtype);
    for (const Json& dim : shape) {
      const uint64_t size = number(dim, name);
      if (size > (uint64_t{1} << 56) || __builtin_mul_overflow(bytes, size, &bytes)) {
        damaged("array '" + name + "' has absurd dimensions");
      }
      e.shape.push_back(static_cast<int64_t>(size));
    }
    e.begin = number(offsets[0], name);
    e.end = number(offsets[1], name);
    if (e.begin > e.end || e.end > data_.size() || e.end - e.begin != bytes) {
      damaged("array '" + name + "' of " + e.shape.str() + ' ' + kind + " does not fit bytes " +
              std::to_string(e.begin) + " to " + std::to_string(e.end) + " of " +
              std::to_string(data_.size()));
    }
    return e;
  }

  std::span<const char> bytes_, data_;
  const std::string& file_;
};

std::string header_of(std::span<const NamedArray> arrays, const Metadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::unordered_set<std::string_view> names;
  uint64_t at = 0;
  for (const auto& [name, array] : arrays) {
    TRI_CHECK(!name.empty() && name != kMetadata && names.insert(name).second,
              "[safetensors] the name '" + name + "' is empty, reserved or there twice");
    const auto kind = std::ranges::find(kKinds, array.dtype(), &Kind::dtype);
    // The ordered object would look through all its members at every operator[].
    nlohmann::ordered_json entry = {
        {"dtype", kind->name},
        {"shape", std::vector<int64_t>(array.shape().begin(), array.shape().end())},
        {"data_offsets", {at, at + array.bytes()}}};
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(name, std::move(entry));
    at += array.bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    fail(Code::kInvalidArgument, "[safetensors] a name or a text of the metadata is not UTF-8");
  }
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');  // the data begins aligned
  return text;
}

}  // namespace

const Array* Safetensors::find(std::string_view name) const {
  const auto it = std::ranges::find(arrays, name, &NamedArray::first);
  return it == arrays.end() ? nullptr : &it->second;
}

Safetensors read_safetensors(std::span<const char> bytes, const std::string& file) {
  return Reader(bytes, file).read();
}

Safetensors read_safetensors(const std::string& path) {
  const MappedFile file(path);
  return read_safetensors(file.bytes(), path);
}

std::unique_ptr<FileWriter> write_safetensors(const std::string& path,
                                              std::span<const NamedArray> arrays,
                                              const Metadata& metadata) {
  const std::string header = header_of(arrays, metadata);
  auto out = std::make_unique<FileWriter>(path);
  const uint64_t length = header.size();
  out->write(&length, sizeof(length));
  out->write(header);
  for (const auto& [name, array] : arrays) out->write(array.data(), array.bytes());
  out->commit();
  return out;
}

}  // namespace trireme
