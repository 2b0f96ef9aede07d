// Damaged programs: an Error that names the file, never a crash, never more memory than the file
// justifies.
#include <random>

#include "formats/small_model.h"
#include "formats/support.h"

namespace trireme {
namespace {

using test::error_of;

// Anything but an Error of the caller's kind escapes and fails the test.
void load_and_record(const std::string& bytes, bool is_pir) {
  try {
    ForeignProgram foreign =
        is_pir ? read_pir_program(bytes, "m") : read_legacy_program(bytes, "m");
    int64_t elements = 0;
    for (const auto& p : foreign.parameters) elements += p.shape.numel();
    for (const auto& i : foreign.inputs) {
      for (int64_t dim : i.shape) elements += dim > 0 ? dim : 0;
    }
    if (elements > 4096) return;  // would be refused by the parameters' file
    auto tensors = test::zeros_for(foreign);
    const Program program(std::move(foreign), std::move(tensors));
    std::vector<Shape> shapes;
    for (const auto& input : program.inputs()) {
      Shape shape = input.shape;
      for (int i = 0; i < shape.rank(); ++i) shape[i] = shape[i] < 0 ? 3 : shape[i];
      shapes.push_back(shape);
    }
    test::record(program, shapes);
  } catch (const Error& error) {
    EXPECT_NE(error.code(), Code::kInternal) << error.what();
    EXPECT_FALSE(std::string(error.what()).empty());
  }
}

void flip_and_cut(const std::string& whole, bool is_pir) {
  for (size_t size = 0; size < whole.size(); ++size) load_and_record(whole.substr(0, size), is_pir);
  std::mt19937 random(1);
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = whole;
    for (unsigned n = 1 + random() % 3; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    load_and_record(bytes, is_pir);
  }
}

TEST(Damage, LegacyBytesFlippedAndCut) { flip_and_cut(small::LegacyModel().bytes(), false); }
TEST(Damage, PirBytesFlippedAndCut) { flip_and_cut(small::pir_model(), true); }

TEST(Damage, ErrorsNameFileAndByte) {
  const std::string whole = small::LegacyModel().bytes();
  EXPECT_HAS(error_of([&] { read_legacy_program(whole.substr(0, 40), "m.pdmodel"); }).what(),
             "m.pdmodel, byte ");
  EXPECT_HAS(error_of([&] { read_pir_program("{\"base_code\":", "m.json"); }).what(), "column");
  EXPECT_EQ(error_of([&] { read_legacy_program("", "m"); }).code(), Code::kInvalidArgument);
}

TEST(Damage, TrailingBytesAreRefused) {
  const std::string legacy = small::LegacyModel().bytes(), pir = small::pir_model();
  for (const std::string& tail :
       {std::string(1, '\0'), std::string("x"), std::string("\x7a\x01x")}) {
    EXPECT_EQ(error_of([&] { read_legacy_program(legacy + tail, "m"); }).code(),
              Code::kInvalidArgument);
  }
  EXPECT_EQ(error_of([&] { read_pir_program(pir + "x", "m"); }).code(), Code::kInvalidArgument);
}

TEST(Damage, AValueUsedBeforeItIsWritten) {
  small::LegacyModel model;
  model.op_before_fetch("relu", {{"X", "later"}}, {{"Out", "y"}});
  const Error error = error_of([&] { read_legacy_program(model.bytes(), "m"); });
  EXPECT_HAS(error.what(), "'later' is used before");
  EXPECT_HAS(error.what(), "'relu'");
  const std::string op = R"({"#":"1.relu","A":[],"I":[{"%":7}],"O":[{"%":6,"TT":)" +
                         small::pir_tensor("[-1,2]") + "}]},";
  EXPECT_HAS(error_of([&] { read_pir_program(small::pir_model(op, 6), "m"); }).what(),
             "%7 is used before");
}

TEST(Damage, AbsurdDimensionsAreRefused) {
  small::LegacyModel model;
  model.var("huge", 7, {int64_t{1} << 40, int64_t{1} << 40}).set_persistable(true);
  EXPECT_HAS(error_of([&] { read_legacy_program(model.bytes(), "m"); }).what(),
             "absurd dimensions");
}

TEST(Damage, BlocksOutOfRangeOrInsideThemselves) {
  for (int block : {-1, 0, 1, 7}) {
    small::LegacyModel model;
    auto& inner = *model.program().add_blocks();
    inner.set_idx(1);
    auto& op = *model.block().mutable_ops(2);  // becomes a loop over y
    const auto make_loop = [&](paddle::OpDesc& loop) {
      loop.Clear();
      loop.set_type("while");
      auto& slot = *loop.add_inputs();
      slot.set_parameter("Condition");
      slot.add_arguments("y");
      auto& attr = *loop.add_attrs();
      attr.set_name("sub_block");
      attr.set_type(paddle::OpDesc::BLOCK);
      attr.set_block_idx(block);
    };
    make_loop(op);
    auto& write = *inner.add_ops();
    write.set_type("relu");
    auto& out = *write.add_outputs();
    out.set_parameter("Out");
    out.add_arguments("y");
    make_loop(*inner.add_ops());
    EXPECT_EQ(error_of([&] { read_legacy_program(model.bytes(), "m"); }).code(),
              Code::kInvalidArgument);
  }
}

TEST(Damage, DeepJsonIsRefused) {
  const std::string deep = std::string(2000000, '[');
  EXPECT_HAS(error_of([&] { read_pir_program(deep, "m"); }).what(), "nested too deeply");
}

TEST(Damage, ListsCannotMultiplyASmallFile) {
  std::string ops;
  const auto number = [](int i) { return R"({"%":)" + std::to_string(i) + "}"; };
  int last = 5;
  for (int i = 100; i < 164; ++i) {  // each list holds the last one twice
    ops += R"({"#":"0.combine","A":[],"I":[)" + number(last) + "," + number(last) +
           R"(],"O":[{"%":)" + std::to_string(i) + R"(,"TT":{"#":"0.t_vec","D":[]}}]},)";
    last = i;
  }
  EXPECT_HAS(error_of([&] { read_pir_program(small::pir_model(ops), "m"); }).what(), "values");
}

}  // namespace
}  // namespace trireme
