// Both readers on small and on real models: structure of the recorded graph, names, errors at load.
#include "formats/program.h"

#include <filesystem>
#include <fstream>

#include "formats/small_model.h"
#include "formats/support.h"
#include "support/data.h"
#include "support/temp.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using test::count_ops;
using test::error_of;

Program legacy(small::LegacyModel& model) {
  ForeignProgram foreign = read_legacy_program(model.bytes(), "m.pdmodel");
  auto tensors =
      read_params(std::span<const char>(small::params()), "m.pdiparams", test::specs_of(foreign));
  return Program(std::move(foreign), std::move(tensors));
}

Program pir(const std::string& text) {
  ForeignProgram foreign = read_pir_program(text, "m.json");
  auto tensors =
      read_params(std::span<const char>(small::params()), "m.pdiparams", test::specs_of(foreign));
  return Program(std::move(foreign), std::move(tensors));
}

TEST(Program, BothFormatsRecordTheSameGraph) {
  small::LegacyModel model;
  const Program a = legacy(model), b = pir(small::pir_model());
  EXPECT_EQ(a.inputs()[0].name, "x");
  EXPECT_EQ(a.outputs()[0].name, "y");
  EXPECT_EQ(b.outputs()[0].name, "fetch_name_0");
  const auto ga = test::record(a, {Shape{3, 2}}), gb = test::record(b, {Shape{3, 2}});
  EXPECT_EQ(count_ops(*ga),
            (std::map<std::string, int>{{"add", 1}, {"constant", 2}, {"data", 1}, {"matmul", 1}}));
  EXPECT_EQ(count_ops(*ga), count_ops(*gb));
  EXPECT_EQ(ga->outputs[0]->type.shape, (Shape{3, 2}));
}

TEST(Program, ErrorsNameTheOperatorAndItsPlace) {
  small::LegacyModel model;
  const Program program = legacy(model);
  const Error error = error_of([&] { test::record(program, {Shape{3, 5}}); });
  EXPECT_HAS(error.what(), "op 1 'matmul_v2' (output y) in m.pdmodel");
}

TEST(Program, ReportsAllUnsupportedOperatorsAtOnce) {
  small::LegacyModel model;
  model.op_before_fetch("strange", {{"X", "y"}}, {{"Out", "y"}});
  model.op_before_fetch("stranger", {{"X", "y"}}, {{"Out", "y"}});
  model.op_before_fetch("strange", {{"X", "y"}}, {{"Out", "y"}});
  const Error error = error_of([&] { legacy(model); });
  EXPECT_EQ(error.code(), Code::kUnimplemented);
  EXPECT_HAS(error.what(), "'strange' x2");
  EXPECT_HAS(error.what(), "'stranger' x1");
}

TEST(Program, LeavesOutOperatorsThatNoOutputNeeds) {
  small::LegacyModel model;
  model.op_before_fetch("strange", {{"X", "y"}}, {{"Out", "z"}});
  EXPECT_EQ(count_ops(*test::record(legacy(model), {Shape{1, 2}})).size(), 4u);
}

TEST(Program, LegacyAxisAlignsTheSmallerOperand) {
  small::LegacyModel model;
  auto& op = model.op_before_fetch("reshape2", {{"X", "y"}}, {{"Out", "y"}});
  auto& shape = *op.add_attrs();
  shape.set_name("shape");
  shape.set_type(paddle::OpDesc::INTS);
  for (int dim : {0, 1, 2, 1}) shape.add_ints(dim);
  model.var("s", 7, {2});
  auto& fill = model.op_before_fetch("fill_constant", {}, {{"Out", "s"}});
  auto& dims = *fill.add_attrs();
  dims.set_name("shape");
  dims.set_type(paddle::OpDesc::LONGS);
  dims.add_longs(2);
  auto& axis = *model.op_before_fetch("elementwise_mul", {{"X", "s"}, {"Y", "y"}}, {{"Out", "y"}})
                    .add_attrs();
  axis.set_name("axis");
  axis.set_type(paddle::OpDesc::INT);
  axis.set_i(2);
  EXPECT_EQ(test::record(legacy(model), {Shape{3, 2}})->outputs[0]->type.shape,
            (Shape{3, 1, 2, 1}));
}

// A legacy program's cond: only the block that is taken runs. What one of two blocks gives alone
// has no value if the other is taken, so that both must run.
TEST(Program, AConditionalBlockIsABranch) {
  for (const bool known : {true, false}) {
    SCOPED_TRACE(known);
    small::LegacyModel model;
    for (const char* name : {"m", "c", "late"}) model.var(name, 7, {-1, 2});
    model.op_before_fetch("cast", {{"X", "y"}}, {{"Out", "c"}});
    auto& dtype = *model.block().mutable_ops(3)->add_attrs();
    dtype.set_name("out_dtype");
    dtype.set_type(paddle::OpDesc::INT);
    dtype.set_i(0);  // bool
    model.op_before_fetch("reduce_any", {{"X", "c"}}, {{"Out", "m"}});
    auto& all = *model.block().mutable_ops(4)->add_attrs();
    all.set_name("reduce_all");
    all.set_type(paddle::OpDesc::BOOLEAN);
    all.set_b(true);
    auto& branch = model.op_before_fetch("conditional_block", {{"Cond", "m"}},
                                         {{"Out", known ? "y" : "late"}});
    auto& attr = *branch.add_attrs();
    attr.set_name("sub_block");
    attr.set_type(paddle::OpDesc::BLOCK);
    attr.set_block_idx(1);
    auto& block = *model.program().add_blocks();
    block.set_idx(1);
    block.set_parent_idx(0);
    auto& op = *block.add_ops();
    op.set_type("exp");
    auto& x = *op.add_inputs();
    x.set_parameter("X");
    x.add_arguments("y");
    auto& out = *op.add_outputs();
    out.set_parameter("Out");
    out.add_arguments(known ? "y" : "late");
    if (!known) model.op_before_fetch("tanh", {{"X", "late"}}, {{"Out", "y"}});
    const auto counts = count_ops(*test::record(legacy(model), {Shape{1, 2}}));
    EXPECT_EQ(counts.contains("if"), known);
    EXPECT_EQ(counts.contains("exp"), !known);
    EXPECT_FALSE(counts.contains("where"));
  }
}

// Real models: the operators that the graph must have.
struct Sample {
  const char* path;
  std::vector<Shape> shapes;
  std::map<std::string, int> some;
};

class RealModel : public testing::TestWithParam<Sample> {};

TEST_P(RealModel, IsRecorded) {
  TRI_NEEDS_DATA(GetParam().path);
  const fs::path path = test::data_folder() / GetParam().path;
  std::unique_ptr<Program> program;
  if (path.extension() == ".pdmodel") {  // a graph without weights
    ForeignProgram foreign =
        read_legacy_program(read_whole_file(path.string(), 1 << 24), path.string());
    auto tensors = test::zeros_for(foreign);
    program = std::make_unique<Program>(std::move(foreign), std::move(tensors));
  } else {
    program = load_program(path.string());
  }
  const auto counts = count_ops(*test::record(*program, GetParam().shapes));
  for (const auto& [name, count] : GetParam().some) {
    EXPECT_EQ(counts.contains(name) ? counts.at(name) : 0, count) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RealModel,
    testing::Values(
        Sample{"ocr/models/v4_graphs/det.pdmodel",
               {Shape{1, 3, 64, 96}},
               {{"conv2d", 62}, {"conv2d_transpose", 2}, {"nearest_interp", 6}, {"batch_norm", 3}}},
        Sample{"ocr/models/v4_graphs/rec.pdmodel",
               {Shape{2, 3, 48, 160}},
               {{"conv2d", 38}, {"matmul", 13}, {"layer_norm", 5}, {"slice", 6}, {"swish", 7}}},
        Sample{"ocr/models/v4_graphs/picodet.pdmodel",
               {Shape{1, 3, 800, 608}},
               {{"conv2d", 102}, {"batch_norm", 94}, {"concat", 8}, {"transpose", 8}}},
        Sample{
            "ocr/models/cls_v2_paddle", {Shape{1, 3, 32, 100}}, {{"conv2d", 53}, {"pool2d", 11}}},
        Sample{"paddle_models/bilstm", {Shape{2, 5, 16}}, {{"rnn", 1}, {"slice", 0}}},
        Sample{"paddle_models/control_flow", {Shape{2, 8}}, {{"if", 1}, {"while", 1}}},
        Sample{"paddle_models/mixed_ops",
               {Shape{1, 8, 8, 8}},
               {{"topk", 1}, {"conv2d_transpose", 1}}}),
    [](const auto& given) {
      std::string name = fs::path(given.param.path).stem().string();
      return name + "_" + std::to_string(given.index);
    });

// ---- finding files ----

class Folder : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  test::TempFolder folder_;
  const fs::path path_ = folder_.path();
};

TEST_F(Folder, LoadsEitherFormatFromAFolderOrAFile) {
  write("inference.pdmodel", small::LegacyModel().bytes());
  write("inference.pdiparams", small::params());
  EXPECT_EQ(load_program(path_.string())->parameters().size(), 2u);
  EXPECT_EQ(load_program((path_ / "inference.pdmodel").string())->parameter_bytes(), 20);
  write("other.json", small::pir_model());
  write("weights", small::params());
  const auto other = load_program((path_ / "other.json").string(), (path_ / "weights").string());
  EXPECT_EQ(other->outputs()[0].name, "fetch_name_0");
}

TEST_F(Folder, SaysWhatItLookedFor) {
  Error error = error_of([&] { load_program(path_.string()); });
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_HAS(error.what(), "inference.pdmodel");
  write("inference.json", small::pir_model());
  error = error_of([&] { load_program(path_.string()); });
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_HAS(error.what(), "inference.pdiparams");
  EXPECT_EQ(error_of([&] { load_program((path_ / "none").string()); }).code(), Code::kNotFound);
}

TEST_F(Folder, AMissingParameterIsNamed) {
  small::LegacyModel model;
  model.var("zz", 7, {4}).set_persistable(true);
  write("inference.pdmodel", model.bytes());
  write("inference.pdiparams", small::params());
  EXPECT_HAS(error_of([&] { load_program(path_.string()); }).what(), "parameter 'zz'");
}

}  // namespace
}  // namespace trireme
