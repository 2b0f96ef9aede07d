// Pass tests as text: each *.graph file here holds the passes to run, a graph, and the graph
// expected after them; "device: gpu" in the head makes it those of a GPU, "precision: float32" asks
// for no bfloat16, "float32: conv2d matmul" keeps operators in float32, "needs: avx512" skips it on
// processors without. TRIREME_UPDATE=1 writes what came out into the file, to be read and
// committed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/cpu_features.h"
#include "graph/text.h"
#include "graph/verify.h"
#include "ops/anchor.h"
#include "ops/cuda_target.h"
#include "passes/pass.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
const fs::path kFolder = fs::path(TRIREME_SOURCE_DIR) / "tests/passes";

struct Case {
  std::string head, passes, float32, input, expected;
};

Case read_case(const fs::path& file) {
  std::ifstream in(file);
  Case c;
  std::string line;
  std::string* part = &c.head;
  while (std::getline(in, line)) {
    if (line.starts_with("run: ")) c.passes = line.substr(5);
    if (line.starts_with("float32: ")) c.float32 = line.substr(9);
    if (line == "--- input") part = &c.input;
    else if (line == "--- expected") part = &c.expected;
    else *part += line + '\n';
  }
  return c;
}

bool has_line(const Case& c, const std::string& line) {
  return c.head.find(line + '\n') != std::string::npos;
}

std::string transformed(const Case& c) {
  const std::unique_ptr<Graph> graph = parse_graph(c.input);
  verify(*graph, "parse");
  const DType precision = has_line(c, "precision: float32") ? DType::kFloat32 : DType::kBFloat16;
  std::istringstream kept(c.float32);
  const std::vector<std::string> float32_ops{std::istream_iterator<std::string>(kept), {}};
  const PassContext context{has_line(c, "device: gpu") ? cuda_target() : cpu_target(), nullptr,
                            precision, float32_ops};
  std::istringstream names(c.passes);
  for (std::string name; names >> name;) {
    const Pass* pass = find_pass(name);
    if (pass == nullptr) throw std::runtime_error("no pass '" + name + "'");
    pass->run(*graph, context);
    verify(*graph, name);
  }
  return to_text(*graph);
}

class PassText : public testing::TestWithParam<std::string> {};

TEST_P(PassText, GivesTheExpectedGraph) {
  const fs::path file = kFolder / (GetParam() + ".graph");
  const Case c = read_case(file);
  ASSERT_FALSE(c.passes.empty()) << file << " has no 'run: PASS' line";
  if (has_line(c, "needs: avx512") && !cpu_features().avx512)
    GTEST_SKIP() << "the pass asks for kernels that need AVX-512";
  const std::string result = transformed(c);
  if (std::getenv("TRIREME_UPDATE")) {
    std::ofstream(file) << c.head << "--- input\n" << c.input << "--- expected\n" << result;
    return;
  }
  EXPECT_EQ(result, c.expected);
}

// What is printed can be read back and prints the same.
TEST_P(PassText, ReadsBackItsOwnText) {
  const std::string once =
      to_text(*parse_graph(read_case(kFolder / (GetParam() + ".graph")).input));
  EXPECT_EQ(to_text(*parse_graph(once)), once);
}

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFolder))
    if (entry.path().extension() == ".graph") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Files, PassText, testing::ValuesIn(cases()),
                         [](const auto& i) { return i.param; });

TEST(PassList, RunsByNameAndRefusesUnknownNames) {
  Graph graph;
  EXPECT_THROW(run_passes(graph, PassContext{cpu_target()}, "fuse_everything"), Error);
  EXPECT_NE(find_pass("clean"), nullptr);
}

}  // namespace
}  // namespace trireme
