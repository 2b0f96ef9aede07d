// .npy files: written and read back, and what is refused.
#include "base/npy.h"

#include <filesystem>
#include <fstream>

#include "formats/support.h"
#include "support/temp.h"

namespace trireme {
namespace {

using test::error_of;

std::string file_of(const std::string& header, const std::string& data, int version = 1) {
  std::string out("\x93NUMPY", 6);
  out += static_cast<char>(version);
  out += '\0';
  out += static_cast<char>(header.size() & 0xff);
  out += static_cast<char>(header.size() >> 8);
  if (version > 1) out += std::string(2, '\0');
  return out + header + data;
}

Array read(const std::string& bytes) { return read_npy(std::span<const char>(bytes), "a.npy"); }

TEST(Npy, ReadsBackWhatItWrites) {
  const test::TempFolder folder;
  const std::string path = folder / "a.npy";
  for (const Shape& shape : {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 4}, Shape{1, 2, 3, 4}}) {
    for (DType dtype :
         {DType::kBool, DType::kUInt8, DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64,
          DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
      Array tensor(dtype, shape);
      for (size_t i = 0; i < tensor.bytes(); ++i) static_cast<char*>(tensor.data())[i] = i % 2;
      write_npy(path, tensor);
      const Array back = read_npy(path);
      EXPECT_EQ(back.shape(), shape);
      EXPECT_EQ(back.dtype(), dtype);
      EXPECT_EQ(std::memcmp(back.data(), tensor.data(), tensor.bytes()), 0);
    }
  }
  std::filesystem::remove(path);
  EXPECT_EQ(error_of([&] { read_npy(path); }).code(), Code::kNotFound);
}

TEST(Npy, ReadsAllVersions) {
  const std::string header = "{'shape': (2,), 'descr': '<i4', 'fortran_order': False}  \n";
  const std::string data("\1\0\0\0\2\0\0\0", 8);
  for (int version = 1; version <= 3; ++version) {
    EXPECT_EQ(read(file_of(header, data, version)).as<int32_t>()[1], 2);
  }
}

TEST(Npy, RefusesWhatItCannotRead) {
  const std::string data(8, '\0');
  const auto with = [&](const std::string& header) {
    return std::string(error_of([&] { read(file_of(header, data)); }).what());
  };
  EXPECT_HAS(with("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }"), "Fortran order");
  EXPECT_HAS(with("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }"), "'>f4'");
  EXPECT_HAS(with("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), "'|O'");
  EXPECT_HAS(with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"), "8 bytes of data");
  EXPECT_HAS(with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"), "8 bytes of data");
  EXPECT_HAS(with("{'descr': '<f4', 'shape': (2,), }"), "is missing");
  EXPECT_HAS(with("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"),
             "absurd");
  EXPECT_EQ(error_of([] { read("PK\3\4 not at all"); }).code(), Code::kInvalidArgument);
}

TEST(Npy, RefusesEveryTruncation) {
  const std::string whole =
      file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", std::string(8, '\0'));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(error_of([&] { read(whole.substr(0, size)); }).code(), Code::kInvalidArgument)
        << size;
  }
}

}  // namespace
}  // namespace trireme
