// NumPy's .npy files: magic, version, a header that is a Python literal, then the elements.
#include "base/npy.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "trireme/error.h"

namespace trireme {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);

struct Kind {
  std::string_view descr;
  DType dtype;
};
constexpr Kind kKinds[] = {
    {"|b1", DType::kBool},    {"|u1", DType::kUInt8},    {"|i1", DType::kInt8},
    {"<i2", DType::kInt16},   {"<i4", DType::kInt32},    {"<i8", DType::kInt64},
    {"<f2", DType::kFloat16}, {"<u2", DType::kBFloat16}, {"<f4", DType::kFloat32},
    {"<f8", DType::kFloat64},
};

// The header: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, keys in any order.
class Header {
 public:
  Header(std::string_view text, const std::string& file, size_t start)
      : text_(text), file_(file), start_(start) {}

  void parse(DType& dtype, Shape& shape) {
    bool seen[3] = {false, false, false};
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (which < 0 || seen[which]) damaged("unexpected key '" + std::string(key) + "'");
      seen[which] = true;
      if (which == 0) dtype = element_type();
      if (which == 1) c_order();
      if (which == 2) shape = dimensions();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (at_ != text_.size()) damaged("bytes behind the header's end");
    if (!seen[0] || !seen[1] || !seen[2]) damaged("descr, fortran_order or shape is missing");
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    fail(Code::kInvalidArgument, "not a .npy file that can be read: " + what,
         file_ + ", byte " + std::to_string(start_ + at_));
  }

  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }

  bool accept(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) damaged(std::string("'") + c + "' expected in the header");
  }

  std::string_view quoted() {
    skip();
    const char quote = at_ < text_.size() ? text_[at_] : ' ';
    if (quote != '\'' && quote != '"') damaged("a quoted text expected in the header");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) damaged("a text in the header does not end");
    const std::string_view result = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return result;
  }

  DType element_type() {
    skip();
    if (at_ < text_.size() && text_[at_] == '[') damaged("records are not supported");
    const std::string_view descr = quoted();
    for (const Kind& kind : kKinds) {
      const bool one_byte = kind.descr[0] == '|';  // byte order does not matter
      if (descr == kind.descr ||
          (one_byte && descr.size() == 3 && descr.substr(1) == kind.descr.substr(1))) {
        return kind.dtype;
      }
    }
    damaged("element type '" + std::string(descr) + "' is not supported");
  }

  void c_order() {
    skip();
    if (text_.substr(at_).starts_with("True")) damaged("Fortran order is not supported");
    if (!text_.substr(at_).starts_with("False")) damaged("fortran_order is neither True nor False");
    at_ += 5;
  }

  Shape dimensions() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      skip();
      int64_t dim = 0;
      const size_t first = at_;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        if (dim > (int64_t{1} << 56)) damaged("absurd dimensions");
        dim = dim * 10 + (text_[at_] - '0');
      }
      if (at_ == first) damaged("a dimension is not a number");
      if (shape.rank() == Shape::kMaxRank) damaged("more than 8 dimensions");
      shape.push_back(dim);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  const std::string& file_;
  size_t start_, at_ = 0;
};

// Where the header's text stands.
struct Preamble {
  size_t start = 0, length = 0;
};

Preamble preamble_of(std::string_view bytes, const std::string& file) {
  if (!bytes.starts_with(kMagic) || bytes.size() < 10) {
    fail(Code::kInvalidArgument, "not a .npy file: the magic number is missing", file + ", byte 0");
  }
  const auto byte = [&](size_t i) {
    return static_cast<size_t>(static_cast<unsigned char>(bytes[i]));
  };
  const size_t version = byte(6);
  if (version < 1 || version > 3) {
    fail(Code::kInvalidArgument, "version " + std::to_string(version) + " of .npy is not supported",
         file + ", byte 6");
  }
  if (version == 1) return {10, byte(8) + (byte(9) << 8)};
  if (bytes.size() < 12) return {12, bytes.size()};
  return {12, byte(8) + (byte(9) << 8) + (byte(10) << 16) + (byte(11) << 24)};
}

// The element type, the shape and where the data starts, of the first bytes of a file of `size`
// bytes.
size_t parse_front(std::string_view front, uint64_t size, const std::string& file, DType& dtype,
                   Shape& shape) {
  const Preamble preamble = preamble_of(front, file);
  if (preamble.length > front.size() - std::min(front.size(), preamble.start)) {
    fail(Code::kInvalidArgument,
         "the header of " + std::to_string(preamble.length) + " bytes is cut short or absurd",
         file + ", byte 8");
  }
  Header(front.substr(preamble.start, preamble.length), file, preamble.start).parse(dtype, shape);
  const uint64_t data = preamble.start + preamble.length, left = size - data;
  const auto count = static_cast<uint64_t>(shape.numel());
  if (count > left / size_of(dtype) || count * size_of(dtype) != left) {
    fail(Code::kInvalidArgument,
         "the header says " + shape.str() + " of " + std::string(name_of(dtype)) +
             ", the file holds " + std::to_string(left) + " bytes of data",
         file + ", byte " + std::to_string(data));
  }
  return data;
}

}  // namespace

Array read_npy(std::span<const char> bytes, const std::string& file) {
  DType dtype = DType::kFloat32;
  Shape shape;
  const size_t data = parse_front({bytes.data(), bytes.size()}, bytes.size(), file, dtype, shape);
  Array tensor(dtype, shape);
  if (tensor.bytes() > 0) std::memcpy(tensor.data(), bytes.data() + data, tensor.bytes());
  return tensor;
}

Array read_npy(const std::string& path) {
  constexpr size_t kFront = 1 << 16;
  errno = 0;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = in ? static_cast<std::streamoff>(in.tellg()) : -1;
  if (size < 0) {
    fail(errno == ENOENT ? Code::kNotFound : Code::kInvalidArgument,
         std::string("cannot read the file: ") + std::strerror(errno), path);
  }
  std::string front(std::min(static_cast<size_t>(size), kFront), '\0');
  in.seekg(0);
  in.read(front.data(), static_cast<std::streamsize>(front.size()));
  if (!in) fail(Code::kInvalidArgument, "cannot read the file", path);
  DType dtype = DType::kFloat32;
  Shape shape;
  const size_t data = parse_front(front, static_cast<uint64_t>(size), path, dtype, shape);
  Array tensor(dtype, shape);
  in.seekg(static_cast<std::streamoff>(data));
  in.read(static_cast<char*>(tensor.data()), static_cast<std::streamsize>(tensor.bytes()));
  if (!in) fail(Code::kInvalidArgument, "the file ends inside the data", path);
  return tensor;
}

void write_npy(const std::string& path, const Array& tensor) {
  const auto kind = std::ranges::find(kKinds, tensor.dtype(), &Kind::dtype);
  std::string header =
      "{'descr': '" + std::string(kind->descr) + "', 'fortran_order': False, 'shape': (";
  for (int64_t dim : tensor.shape())
    header += std::to_string(dim) + (tensor.shape().rank() == 1 ? "," : ", ");
  if (tensor.shape().rank() > 1) header.resize(header.size() - 2);
  header += "), }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(kMagic.data(), static_cast<std::streamsize>(kMagic.size()));
  const char rest[4] = {1, 0, static_cast<char>(header.size() & 0xff),
                        static_cast<char>(header.size() >> 8)};
  out.write(rest, 4);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  out.write(static_cast<const char*>(tensor.data()), static_cast<std::streamsize>(tensor.bytes()));
  out.close();
  if (!out) {
    fail(Code::kInvalidArgument, std::string("cannot write the file: ") + std::strerror(errno),
         path);
  }
}

}  // namespace trireme
