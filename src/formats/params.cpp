// Reader of Paddle's combined parameters (.pdiparams).
#include "formats/params.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/files.h"
#include "formats/foreign.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const std::string& path, uint64_t& size) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    fail(errno == ENOENT || errno == ENOTDIR ? Code::kNotFound : Code::kInvalidArgument,
         std::string("cannot open the file: ") + std::strerror(errno), path);
  }
  if (!S_ISREG(info.st_mode)) fail(Code::kInvalidArgument, "not a regular file", path);
  File file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) {
    fail(Code::kInvalidArgument, std::string("cannot open the file: ") + std::strerror(errno),
         path);
  }
  size = static_cast<uint64_t>(info.st_size);
  return file;
}

// Bytes from a file or from memory, with the offset for messages.
class Source {
 public:
  Source(std::FILE* file, uint64_t size, std::string name)
      : file_(file), size_(size), name_(std::move(name)) {}
  Source(std::span<const char> bytes, std::string name)
      : memory_(bytes.data()), size_(bytes.size()), name_(std::move(name)) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return size_ - offset_; }
  void set_record(std::string record) { record_ = std::move(record); }

  [[noreturn]] void damaged(const std::string& what) const {
    std::string place = name_ + ", byte " + std::to_string(offset_);
    fail(Code::kInvalidArgument, record_.empty() ? what : "parameter '" + record_ + "': " + what,
         std::move(place));
  }

  void read(void* to, uint64_t count, const char* what) {
    if (count > left()) {
      damaged("the file ends inside the " + std::string(what) + ": " + std::to_string(count) +
              " bytes expected, " + std::to_string(left()) + " left");
    }
    if (count == 0) return;
    if (memory_ != nullptr) {
      std::memcpy(to, memory_ + offset_, count);
    } else if (std::fread(to, 1, count, file_) != count) {
      damaged("cannot read " + std::to_string(count) + " bytes of the " + std::string(what));
    }
    offset_ += count;
  }

  template <class T> T number(const char* what) {
    T value;
    read(&value, sizeof(value), what);
    return value;
  }

 private:
  std::FILE* file_ = nullptr;
  const char* memory_ = nullptr;
  uint64_t size_, offset_ = 0;
  std::string name_, record_;
};

// A varint of a tensor description; false at the end or when it is longer than 64 bits.
bool read_varint(std::span<const uint8_t>& in, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (in.empty()) return false;
    const uint8_t byte = in.front();
    in = in.subspan(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

struct Description {
  int64_t data_type = -1;
  std::vector<int64_t> dims;
};

// TensorDesc { data_type = 1; dims = 2, packed or not }.
bool parse_description(std::span<const uint8_t> in, Description& out) {
  constexpr size_t kMost = 64;  // more dimensions than any tensor has
  while (!in.empty()) {
    uint64_t tag = 0, value = 0;
    if (!read_varint(in, tag) || !read_varint(in, value)) return false;
    if (tag == 8) {
      out.data_type = static_cast<int64_t>(value);
    } else if (tag == 16) {
      out.dims.push_back(static_cast<int64_t>(value));
    } else if (tag == 18) {
      if (value > in.size()) return false;
      std::span<const uint8_t> packed = in.first(value);
      in = in.subspan(value);
      uint64_t dim = 0;
      while (!packed.empty() && out.dims.size() < kMost) {
        if (!read_varint(packed, dim)) return false;
        out.dims.push_back(static_cast<int64_t>(dim));
      }
    } else {
      return false;
    }
    if (out.dims.size() > kMost) return false;
  }
  return out.data_type >= 0;
}

std::string text_of(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

void skip_lod(Source& in) {
  const auto version = in.number<uint32_t>("record's version");
  if (version != 0) in.damaged("record version " + std::to_string(version) + ", expected 0");
  const auto levels = in.number<uint64_t>("count of LoD levels");
  if (levels > 16) in.damaged(std::to_string(levels) + " LoD levels");
  for (uint64_t i = 0; i < levels; ++i) {
    const auto bytes = in.number<uint64_t>("size of a LoD level");
    if (bytes > in.left()) in.damaged("a LoD level of " + std::to_string(bytes) + " bytes");
    for (uint64_t left = bytes; left > 0;) {
      char sink[256];
      const uint64_t step = std::min<uint64_t>(left, sizeof(sink));
      in.read(sink, step, "LoD level");
      left -= step;
    }
  }
}

Array read_record(Source& in, const ParamSpec& expected) {
  skip_lod(in);
  const auto version = in.number<uint32_t>("tensor's version");
  if (version != 0) in.damaged("tensor version " + std::to_string(version) + ", expected 0");
  const auto length = in.number<int32_t>("length of the tensor's description");
  if (length < 2 || length > 1024) {
    in.damaged("a tensor description of " + std::to_string(length) + " bytes");
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(length));
  in.read(bytes.data(), bytes.size(), "tensor's description");
  Description found;
  if (!parse_description(bytes, found)) in.damaged("the tensor's description is damaged");
  const DType dtype = dtype_from_paddle(found.data_type, "parameter '" + expected.name + "'");
  if (dtype != expected.dtype) {
    in.damaged("the program says " + std::string(name_of(expected.dtype)) + ", the file holds " +
               std::string(name_of(dtype)));
  }
  const auto dims = expected.shape.dims();
  if (found.dims.size() != dims.size() ||
      !std::equal(dims.begin(), dims.end(), found.dims.begin())) {
    in.damaged("the program says shape " + expected.shape.str() + ", the file holds " +
               text_of(found.dims));
  }
  const auto count = static_cast<uint64_t>(expected.shape.numel());
  if (count > in.left() / size_of(dtype)) {
    in.damaged("the file ends inside the data: " + expected.shape.str() + " of " +
               std::string(name_of(dtype)) + " expected, " + std::to_string(in.left()) +
               " bytes left");
  }
  Array tensor(dtype, expected.shape);
  in.read(tensor.data(), count * size_of(dtype), "data");
  return tensor;
}

std::vector<Array> read_all(Source& in, std::span<const ParamSpec> expected) {
  std::vector<Array> tensors;
  tensors.reserve(expected.size());
  for (const ParamSpec& spec : expected) {
    in.set_record(spec.name);
    tensors.push_back(read_record(in, spec));
  }
  in.set_record({});
  if (in.left() != 0) {
    in.damaged(std::to_string(in.left()) + " bytes behind the last of " +
               std::to_string(expected.size()) + " parameters");
  }
  return tensors;
}

}  // namespace

std::vector<Array> read_params(const std::string& path, std::span<const ParamSpec> expected) {
  uint64_t size = 0;
  const File file = open_file(path, size);
  Source in(file.get(), size, path);
  return read_all(in, expected);
}

std::vector<Array> read_params(std::span<const char> bytes, const std::string& file,
                               std::span<const ParamSpec> expected) {
  static constexpr char kNothing = 0;  // so that empty memory is still memory, not a file
  Source in(bytes.empty() ? std::span<const char>(&kNothing, 0) : bytes, file);
  return read_all(in, expected);
}

void write_params(const std::string& path, std::span<const NamedArray> arrays) {
  FileWriter out(path);
  const auto put = [&](auto value) { out.write(&value, sizeof(value)); };
  for (const auto& [name, array] : arrays) {
    put(uint32_t{0});  // version of the record
    put(uint64_t{0});  // LoD levels
    put(uint32_t{0});  // version of the tensor
    std::string description{'\x08', static_cast<char>(paddle_dtype(array.dtype()))};
    for (const int64_t dim : array.shape()) {
      description += '\x10';
      auto rest = static_cast<uint64_t>(dim);
      for (; rest > 0x7f; rest >>= 7) description += static_cast<char>((rest & 0x7f) | 0x80);
      description += static_cast<char>(rest);
    }
    put(static_cast<int32_t>(description.size()));
    out.write(description);
    out.write(array.data(), array.bytes());
  }
  out.commit();
}

std::string read_whole_file(const std::string& path, size_t limit) {
  uint64_t size = 0;
  const File file = open_file(path, size);
  if (size > limit) {
    fail(Code::kInvalidArgument,
         std::to_string(size) + " bytes, more than the " + std::to_string(limit) + " allowed",
         path);
  }
  std::string bytes(size, '\0');
  Source(file.get(), size, path).read(bytes.data(), size, "file");
  return bytes;
}

}  // namespace trireme
