// Safetensors: the way there and back, and what is refused.
#include "formats/safetensors.h"

#include "formats/support.h"
#include "support/data.h"
#include "support/temp.h"

namespace trireme {
namespace {

using test::error_of;

TEST(Safetensors, KeepsEveryDTypeAndTheMetadata) {
  const test::TempFolder folder;
  std::vector<NamedArray> arrays;
  for (int d = 0; d <= static_cast<int>(DType::kFloat64); ++d) {
    Array a(static_cast<DType>(d), Shape{2, 3});
    for (size_t i = 0; i < a.bytes(); ++i) a.as<uint8_t>()[i] = static_cast<uint8_t>(i % 2);
    arrays.emplace_back("a." + std::string(name_of(a.dtype())), a);
  }
  arrays.emplace_back("scalar",
                      Array::from<float>(Shape{}, std::vector<float>{7}, DType::kFloat32));
  arrays.emplace_back("空", Array(DType::kInt64, Shape{0, 4}));
  const std::string path = (folder / "a.safetensors").string();
  const auto written = write_safetensors(path, arrays, {{"epoch", "3"}});
  EXPECT_EQ(written->size(), std::filesystem::file_size(path));
  EXPECT_EQ(written->sha256(), sha256_of_file(path));
  const Safetensors same = read_safetensors(path);
  EXPECT_EQ(same.metadata.at("epoch"), "3");
  ASSERT_EQ(same.arrays.size(), arrays.size());
  for (const auto& [name, array] : arrays) {
    const Array* got = same.find(name);
    ASSERT_NE(got, nullptr) << name;
    EXPECT_EQ(got->dtype(), array.dtype());
    EXPECT_EQ(got->shape(), array.shape());
    EXPECT_EQ(std::memcmp(got->data(), array.data(), array.bytes()), 0) << name;
  }
}

TEST(Safetensors, ReadsAPeersFile) {
  TRI_NEEDS_DATA("train_golden/lenet/init.safetensors");
  const Safetensors init =
      read_safetensors((test::data_folder() / "train_golden/lenet/init.safetensors").string());
  EXPECT_GE(init.arrays.size(), 8u);
}

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

Error refused(const std::string& bytes) {
  return error_of([&] { read_safetensors(std::span<const char>(bytes), "f"); });
}

std::string one(const std::string& name, const std::string& shape, int begin, int end,
                const std::string& dtype = "F32") {
  return '"' + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
         std::to_string(begin) + ',' + std::to_string(end) + "]}";
}

TEST(Safetensors, RefusesDamage) {
  const std::string four(4, 'x'), eight(8, 'x');
  EXPECT_EQ(
      read_safetensors(std::span<const char>(file_of('{' + one("a", "[1]", 0, 4) + '}', four)), "f")
          .arrays.size(),
      1u);
  EXPECT_HAS(refused("abc").what(), "too short");
  EXPECT_HAS(refused(file_of("{}", "").replace(0, 1, "\x70")).what(), "absurd");
  EXPECT_HAS(refused(file_of("[1]", "")).what(), "not a JSON object");
  EXPECT_HAS(refused(file_of("{", "")).what(), "not JSON");
  EXPECT_HAS(refused(file_of('{' + one("a", "[1]", 0, 4) + '}', four + "y")).what(),
             "the file holds 5");
  EXPECT_HAS(
      refused(file_of('{' + one("a", "[1]", 0, 4) + ',' + one("b", "[1]", 2, 6) + '}', four + "yy"))
          .what(),
      "inside the one before");
  EXPECT_HAS(refused(file_of('{' + one("a", "[1]", 4, 8) + '}', eight)).what(), "gap");
  EXPECT_HAS(
      refused(file_of('{' + one("a", "[1]", 0, 4) + ',' + one("a", "[1]", 4, 8) + '}', eight))
          .what(),
      "'a' occurs twice");
  EXPECT_HAS(refused(file_of('{' + one("a", "[2]", 0, 4) + '}', four)).what(), "does not fit");
  EXPECT_HAS(refused(file_of('{' + one("a", "[4611686018427387904,4]", 0, 4) + '}', four)).what(),
             "absurd dimensions");
  EXPECT_HAS(refused(file_of('{' + one("a", "[-1]", 0, 4) + '}', four)).what(), "not a count");
  EXPECT_EQ(refused(file_of('{' + one("a", "[4]", 0, 4, "F8_E4M3") + '}', four)).code(),
            Code::kUnimplemented);
  EXPECT_HAS(refused(file_of(R"({"a":{"dtype":"F32"}})", "")).what(), "has no shape");
}

TEST(Safetensors, AFileThatCannotBeWrittenLeavesNothing) {
  const test::TempFolder folder;
  const Array a(DType::kFloat32, Shape{1});
  const std::vector<NamedArray> twice{{"a", a}, {"a", a}};
  EXPECT_HAS(error_of([&] { write_safetensors((folder / "t").string(), twice); }).what(),
             "'a' is empty, reserved or there twice");
  EXPECT_EQ(error_of([&] {
              write_safetensors((folder / "none/t").string(), std::vector<NamedArray>{{"a", a}});
            }).code(),
            Code::kNotFound);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace trireme
