// Graphs: recording checks at the call, small constants fold, order and copies hold.
#include <gtest/gtest.h>

#include "graph/text.h"
#include "graph/verify.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "nothing was thrown";
}

struct Recording {
  Graph graph;
  BuilderScope scope{graph};
  Value* input(Shape shape, DType dtype = DType::kFloat32) {
    return graph.add_input({dtype, shape});
  }
};

TEST(Record, ErrorsComeAtTheCallWithBothValuesAndThePlace) {
  Recording r;
  set_location("op 17 in net.pdmodel");
  const std::string text = message_of([&] {
    ops::conv2d(r.input({1, 32, 8, 8}), r.input({8, 64, 3, 3}), nullptr, {});
  });
  set_location({});
  EXPECT_EQ(text, "[conv2d] weight expects 64 input channels, got 32 (op 17 in net.pdmodel)");
}

TEST(Record, RefusesShapesThatDoNotBroadcast) {
  Recording r;
  EXPECT_EQ(message_of([&] {
              ops::add(r.input({2, 3}), r.input({2, 4}));
            }),
            "[add] shapes [2, 3] and [2, 4] do not broadcast");
  EXPECT_EQ(message_of([&] {
              ops::matmul(r.input({2, 3}), r.input({4, 5}));
            }),
            "[matmul] inner dimensions differ: [2, 3] times [4, 5]");
}

TEST(Record, ShapeArithmeticGivesConstants) {
  Recording r;
  Value* x = r.input({2, 3, 40, 8});
  Value* shape = ops::shape_of(x, DType::kInt64);
  Value* height = ops::slice(shape, {0}, {2}, {3});
  Value* twice = ops::multiply(height, scalar(2, DType::kInt64));
  const Array* t = constant_of(twice);
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(*t->as<int64_t>(), 80);
}

TEST(Graph, SortsAfterInsertion) {
  Recording r;
  Value* x = r.input({4});
  Value* a = ops::exp(x);
  Value* b = ops::log(a);
  r.graph.outputs = {b};
  Value* inserted = ops::sqrt(a);  // at the end of the list
  b->node->inputs[0] = inserted;   // but needed before
  EXPECT_THROW(verify(r.graph, "test"), Error);
  r.graph.sort();
  verify(r.graph, "test");
}

TEST(Graph, ACopyIsTheSameAndAChangeIsSeen) {
  const auto graph = parse_graph(
      "graph(%x: float32[4]) { %0: float32[4] = leaky_relu(%x) {alpha=0.1} return %0 }");
  auto copy = copy_graph(*graph);
  EXPECT_TRUE(same_graph(*graph, *copy));
  copy->nodes.back()->attrs = PointwiseAttrs{0.2, 0};
  EXPECT_FALSE(same_graph(*graph, *copy));
}

// Nodes are compared by their numbers, which a pass that moves nodes leaves behind.
TEST(Graph, ComparesWhereNodesWereMoved) {
  const auto make = [](bool swapped) {
    auto graph = std::make_unique<Graph>();
    const BuilderScope scope(*graph);
    Value* x = graph->add_input({DType::kFloat32, {4}});
    Value* y = ops::relu(x);
    Value* z = ops::tanh(x);
    graph->outputs = {swapped ? ops::subtract(z, y) : ops::subtract(y, z)};
    return graph;
  };
  const auto plain = make(false), again = make(false), swapped = make(true);
  EXPECT_TRUE(same_graph(*plain, *again));
  EXPECT_EQ(hash_of(*plain), hash_of(*again));
  EXPECT_FALSE(same_graph(*plain, *swapped));
  EXPECT_NE(hash_of(*plain), hash_of(*swapped));
  std::swap(again->nodes[1], again->nodes[2]);
  EXPECT_FALSE(same_graph(*plain, *again));
  const auto moved = copy_graph(*again);  // has numbers of its own
  EXPECT_TRUE(same_graph(*again, *moved));
  EXPECT_EQ(hash_of(*again), hash_of(*moved));
  std::swap(again->nodes[1], again->nodes[2]);
  EXPECT_TRUE(same_graph(*plain, *again));
  again->sort();
  EXPECT_EQ(again->nodes.back()->number, again->nodes.size() - 1);
}

TEST(Text, ErrorsNameTheLine) {
  EXPECT_NE(message_of([] {
              parse_graph("graph(%x: float32[4]) {\n  %0: float32[4] = nosuch(%x)\n  return %0\n}");
            }).find("line 2"),
            std::string::npos);
  EXPECT_NE(message_of([] {
              parse_graph("graph(%x: float32[4]) {\n  %0: float32[5] = exp(%x)\n  return %0\n}");
            }).find("float32[4]"),
            std::string::npos);
}

TEST(Shape, RefusesWhatDoesNotFit) {
  EXPECT_THROW((Shape{int64_t{1} << 40, int64_t{1} << 40}.numel()), Error);
  EXPECT_THROW((Shape{2, -1}.numel()), Error);
  EXPECT_EQ(shape_from_text("1x3x640x640"), (Shape{1, 3, 640, 640}));
  EXPECT_THROW(shape_from_text("1x3xbig"), Error);
}

}  // namespace
}  // namespace trireme
