// The one door for passes, and their order.
#include "passes/pass.h"

#include <cstdlib>
#include <fstream>

#include "base/stage_timer.h"
#include "base/switches.h"
#include "graph/text.h"
#include "graph/verify.h"

namespace trireme {
namespace {

// amp comes after clean so that constants fold into float32 weights before anything is rounded.
constexpr Pass kPasses[] = {{"branches", branches},
                            {"clean", clean},
                            {"fuse_attention", fuse_attention},
                            {"amp", amp},
                            {"layout", layout},
                            {"fuse_norm", fuse_norm},
                            {"fuse_loss", fuse_loss},
                            {"fuse_anchor", fuse_anchor},
                            {"fuse_pointwise", fuse_pointwise},
                            {"schedule", schedule}};

void dump(const Graph& graph, std::string_view pass, const char* when) {
  const char* folder = std::getenv("TRIREME_DUMP");
  if (folder == nullptr) return;
  std::ofstream(std::string(folder) + '/' + std::string(pass) + '.' + when + ".graph")
      << to_text(graph);
}

bool verifies() {
#ifndef NDEBUG
  return true;
#else
  static const bool on = std::getenv("TRIREME_VERIFY") != nullptr;
  return on;
#endif
}

}  // namespace

std::span<const Pass> passes() { return kPasses; }

const Pass* find_pass(std::string_view name) {
  for (const Pass& p : kPasses)
    if (p.name == name) return &p;
  return nullptr;
}

void run_pass(const Pass& pass, Graph& graph, const PassContext& context) {
  if (is_disabled(pass.name)) return;
  dump(graph, pass.name, "before");
  {
    const StageTimer timer(pass.name);
    pass.run(graph, context);
  }
  dump(graph, pass.name, "after");
  if (verifies()) verify(graph, pass.name);
}

void run_passes(Graph& graph, const PassContext& context, std::string_view last) {
  if (last == "record") return;
  TRI_CHECK(last.empty() || find_pass(last), "no such pass: '" + std::string(last) + "'");
  for (const Pass& p : kPasses) {
    run_pass(p, graph, context);
    if (p.name == last) return;
  }
}

}  // namespace trireme
