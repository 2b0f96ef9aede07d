// The reader of .pdiparams: what it takes, and what it refuses, with file, record and offset.
#include "formats/params.h"

#include <filesystem>
#include <fstream>

#include "formats/small_model.h"
#include "formats/support.h"
#include "support/temp.h"

namespace trireme {
namespace {

using test::error_of;

const std::vector<ParamSpec> kSpecs = {{"b", DType::kFloat32, Shape{1}},
                                       {"w", DType::kFloat32, Shape{2, 2}}};

std::vector<Array> read(const std::string& bytes, const std::vector<ParamSpec>& specs = kSpecs) {
  return read_params(std::span<const char>(bytes), "m.pdiparams", specs);
}

TEST(Params, ReadsRecordsInOrder) {
  const auto tensors = read(small::params());
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].as<float>()[0], 0.5f);
  EXPECT_EQ(tensors[1].as<float>()[3], 4.0f);
  EXPECT_EQ(tensors[1].shape(), (Shape{2, 2}));
}

TEST(Params, ReadsAFileAsItReadsMemory) {
  const test::TempFolder folder;
  const auto path = folder / "a.pdiparams";
  std::ofstream(path, std::ios::binary) << small::params();
  EXPECT_EQ(read_params(path.string(), kSpecs)[1].as<float>()[2], 3.0f);
  std::filesystem::remove(path);
  EXPECT_EQ(error_of([&] { read_params(path.string(), kSpecs); }).code(), Code::kNotFound);
}

TEST(Params, ReadsRankZeroAndEmptyTensors) {
  const std::string bytes =
      small::record(3, {}, std::string(8, '\1')) + small::record(5, {0, 3}, {});
  const auto tensors =
      read(bytes, {{"a", DType::kInt64, Shape{}}, {"e", DType::kFloat32, Shape{0, 3}}});
  EXPECT_EQ(tensors[0].as<int64_t>()[0], 0x0101010101010101);
  EXPECT_EQ(tensors[1].numel(), 0);
}

TEST(Params, RefusesEveryTruncation) {
  const std::string whole = small::params();
  for (size_t size = 0; size < whole.size(); ++size) {
    const Error error = error_of([&] { read(whole.substr(0, size)); });
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_HAS(error.what(), "m.pdiparams, byte ");
    EXPECT_HAS(error.what(), size < 28 ? "parameter 'b'" : "parameter 'w'");
  }
}

TEST(Params, RefusesTrailingBytes) {
  const Error error = error_of([] { read(small::params() + "x"); });
  EXPECT_HAS(error.what(), "1 bytes behind the last of 2 parameters");
}

TEST(Params, RefusesAnotherShapeOrType) {
  EXPECT_HAS(error_of([] {
               read(small::record(5, {2}, small::floats({1, 2})));
             }).what(),
             "the program says shape [1], the file holds [2]");
  EXPECT_HAS(error_of([] { read(small::record(2, {1}, small::floats({1}))); }).what(),
             "the program says float32, the file holds int32");
}

TEST(Params, AllocatesNothingTheFileCannotFill) {
  constexpr int64_t kHuge = int64_t{1} << 44;
  const std::string bytes = small::record(5, {kHuge}, small::floats({1}));
  const Error error = error_of([&] { read(bytes, {{"b", DType::kFloat32, Shape{kHuge}}}); });
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_HAS(error.what(), "the file ends inside the data");
}

TEST(Params, RefusesAbsurdCounts) {
  std::string bytes = small::params();
  bytes[4] = '\x7f';  // LoD levels
  EXPECT_HAS(error_of([&] { read(bytes); }).what(), "LoD levels");
  bytes = small::params();
  bytes[19] = '\x7f';  // length of the description
  EXPECT_HAS(error_of([&] { read(bytes); }).what(), "tensor description of ");
}

}  // namespace
}  // namespace trireme
