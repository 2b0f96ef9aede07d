// trireme graph: the program as text, as recorded or after a pass.
#include <CLI/CLI.hpp>
#include <iostream>

#include "cli/model_options.h"
#include "cli/verbs.h"

namespace trireme::cli {
namespace {

struct Request : ModelOptions {
  std::vector<std::string> shapes;
  std::string after;
};

// Declared shapes with every unknown dimension replaced by a small, plausible one.
Shape plausible(const Shape& declared) {
  Shape s;
  for (int d = 0; d < declared.rank(); ++d)
    s.push_back(declared[d] >= 0 ? declared[d] : d == 0 ? 1 : 64);
  return s;
}

void print_graph(const Request& r) {
  const auto predictor = inference::create_predictor(r.config());
  std::vector<Shape> shapes;
  if (r.shapes.empty())
    for (const auto& i : predictor->inputs()) shapes.push_back(plausible(i.shape));
  else
    for (const std::string& s : by_input(r.shapes, predictor->inputs(), "--shape"))
      shapes.push_back(shape_from_text(s));
  std::cout << predictor->graph_text(shapes, r.after);
}

}  // namespace

void add_graph(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("graph", "Print a model's graph");
  auto r = std::make_shared<Request>();
  r->add_to(*verb);
  verb->add_option("--shape", r->shapes,
                   "NAME=1x3x640x640 for each input; unknown dimensions get 1 and 64 otherwise");
  verb->add_option("--after", r->after,
                   "record, branches, clean, fuse_attention, amp, layout, fuse_norm, fuse_loss, "
                   "fuse_anchor, fuse_pointwise or schedule (default)");
  verb->callback([r] { print_graph(*r); });
}

}  // namespace trireme::cli
