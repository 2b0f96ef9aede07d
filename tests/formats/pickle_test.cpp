// The restricted pickle: everything that Paddle saved, nothing that somebody else made of it.
#include "formats/pickle.h"

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/sha256.h"
#include "formats/support.h"
#include "support/data.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::error_of;

Json read_json(const fs::path& path) {
  const MappedFile file(path.string());
  return Json::parse(file.bytes().begin(), file.bytes().end());
}

std::string numpy_name(std::string_view dtype) {
  static const std::map<std::string_view, std::string> kNames = {
      {"b1", "bool"},    {"u1", "uint8"},   {"i1", "int8"},     {"i2", "int16"},
      {"i4", "int32"},   {"i8", "int64"},   {"u2", "uint16"},   {"f2", "float16"},
      {"f4", "float32"}, {"f8", "float64"}, {"c8", "complex64"}};
  return kNames.at(dtype);
}

void expect_same(const Json& truth, const PickleValue& got) {
  const std::string kind = truth["kind"];
  if (kind == "ndarray") {
    ASSERT_EQ(got.kind, PickleValue::kArray);
    EXPECT_EQ(numpy_name(got.numpy_dtype), truth["dtype"]);
    auto dims = truth["shape"].get<std::vector<int64_t>>();
    if (got.numpy_dtype == "c8") dims.push_back(2);
    EXPECT_EQ(got.array.shape(), Shape(dims));
    Sha256 hash;
    hash.update(got.array.data(), got.array.bytes());
    EXPECT_EQ(hash.hex().substr(0, 16), truth["sha256"]);
  } else if (kind == "dict" || kind == "OrderedDict") {
    ASSERT_EQ(got.kind, PickleValue::kDict);
    ASSERT_EQ(got.entries(), truth["items"].size());
    for (const auto& [key, item] : truth["items"].items()) {
      SCOPED_TRACE(key);
      ASSERT_NE(got.find(key), nullptr);
      expect_same(item, *got.find(key));
    }
  } else if (kind == "tuple" || kind == "list") {
    ASSERT_EQ(name_of(got.kind), kind);
    ASSERT_EQ(got.items.size(), truth["items"].size());
    for (size_t i = 0; i < got.items.size(); ++i) expect_same(truth["items"][i], *got.items[i]);
  } else if (kind == "str") {
    EXPECT_EQ(got.text, truth["value"].get<std::string>());
  } else if (kind == "int" || kind == "bool") {
    EXPECT_EQ(got.kind, kind == "int" ? PickleValue::kInt : PickleValue::kBool);
    EXPECT_EQ(got.integer,
              kind == "int" ? truth["value"].get<int64_t>() : int64_t{truth["value"].get<bool>()});
  } else if (kind == "float") {
    EXPECT_EQ(got.real, truth["value"].get<double>());
  } else {
    EXPECT_EQ(kind, "NoneType");
    EXPECT_EQ(got.kind, PickleValue::kNone);
  }
}

TEST(Pickle, ReadsAllThatPaddleSaved) {
  TRI_NEEDS_DATA("paddle_models/checkpoint/content.json");
  const fs::path folder = test::data_folder() / "paddle_models/checkpoint";
  const Json files = read_json(folder / "content.json")["files"];
  EXPECT_GE(files.size(), 11u);
  for (const auto& [name, truth] : files.items()) {
    SCOPED_TRACE(name);
    const MappedFile file((folder / name).string());
    expect_same(truth["content"], Pickle(file.bytes(), name).root());
  }
}

TEST(Pickle, RefusesEveryBadFile) {
  TRI_NEEDS_DATA("paddle_models/bad_checkpoints/bad.json");
  const fs::path folder = test::data_folder() / "paddle_models/bad_checkpoints";
  const Json list = read_json(folder / "bad.json");
  for (const auto& [name, bad] : list["files"].items()) {
    SCOPED_TRACE(name);
    const MappedFile file((folder / name).string());
    const Error error = error_of([&, &what = name] { Pickle(file.bytes(), what); });
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_HAS(error.what(), name);
    EXPECT_HAS(error.what(), name == "os_system.pdparams"      ? "posix.system"
                             : name == "deep_nesting.pdparams" ? "nested too deeply"
                                                               : "");
  }
  EXPECT_FALSE(fs::exists("/tmp/trireme_pwned"));
}

TEST(Pickle, RefusesEveryTruncation) {
  TRI_NEEDS_DATA("paddle_models/checkpoint/small.pdparams");
  const MappedFile file((test::data_folder() / "paddle_models/checkpoint/small.pdparams").string());
  for (size_t size = 0; size < file.bytes().size(); ++size) {
    EXPECT_EQ(error_of([&] { Pickle(file.bytes().first(size), "cut"); }).code(),
              Code::kInvalidArgument);
  }
}

Error refused(const std::string& body) {
  const std::string bytes = "\x80\x04" + body + ".";
  return error_of([&] { Pickle(std::span<const char>(bytes), "p"); });
}

TEST(Pickle, RefusesCyclesSharingAndLeftovers) {
  EXPECT_HAS(refused("]\x94h" + std::string(1, '\0') + "a").what(), "contains itself");
  EXPECT_HAS(refused("}(K\x01K\x02]Nu").what(), "a key is a list");
  EXPECT_HAS(
      refused("}(X\x01" + std::string(3, '\0') + "aNX\x01" + std::string(3, '\0') + "aNu").what(),
      "occurs twice");
  EXPECT_HAS(refused("cnumpy\ndtype\n").what(), "stands as an object");
  EXPECT_HAS(refused("NN").what(), "left over");
  EXPECT_HAS(refused("\x8a\x09").what(), "more than 64 bits");
  EXPECT_HAS(refused("X\x02" + std::string(3, '\0') + "\xc0\x80").what(), "not UTF-8");
  // 60 lists, each twice the one before: few bytes, 2^60 leaves.
  std::string doubled = "]\x94";
  for (char i = 0; i < 60; ++i) doubled += std::string("0](h") + i + "h" + i + "e\x94";
  EXPECT_HAS(refused(doubled).what(), "refer to each other too often");
}

TEST(Pickle, KeepsFortransOrderApart) {
  const std::string zero(1, '\0');
  const std::string body = "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK" + zero +
                           "C\x01" + "b\x87R" + "(K\x01K\x02K\x03\x86" +
                           "cnumpy\ndtype\n\x8c\x02u1\x89\x88\x87R(K\x03\x8c\x01|NNN" +
                           "J\xff\xff\xff\xffJ\xff\xff\xff\xffK" + zero + "tb\x88" + "C\x06" +
                           "\x01\x04\x02\x05\x03\x06tb";
  const std::string bytes = "\x80\x04" + body + ".";
  const Pickle pickle(std::span<const char>(bytes), "p");
  ASSERT_EQ(pickle.root().kind, PickleValue::kArray);
  const Array& array = pickle.root().array;
  ASSERT_EQ(array.shape(), (Shape{2, 3}));
  for (uint8_t i = 0; i < 6; ++i) EXPECT_EQ(array.as<uint8_t>()[i], i + 1);
}

}  // namespace
}  // namespace trireme
