// trireme doctor: why a GPU can or cannot be used, layer by layer.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "cli/verbs.h"
#include "trireme/doctor.h"

namespace trireme::cli {

void add_doctor(CLI::App& app) {
  CLI::App* verb = app.add_subcommand(
      "doctor", "Say what stands between this program and a GPU; exit status 0: nothing");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "For programs");
  verb->callback([json] {
    const doctor::Report report = doctor::examine();
    std::cout << (*json ? doctor::to_json(report) : doctor::to_text(report)) << std::flush;
    if (report.exit_code != 0) throw CLI::RuntimeError(report.exit_code);
  });
}

}  // namespace trireme::cli
