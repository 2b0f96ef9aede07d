// trireme: the command line. Errors are one line on stderr; the exit status tells their kind.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <new>

#include "cli/verbs.h"
#include "trireme/error.h"

namespace {

enum Exit { kUsage = 2, kBadInput = 3, kResources = 4 };

int exit_status(trireme::Code code) {
  using trireme::Code;
  return code == Code::kResourceExhausted || code == Code::kUnavailable ? kResources : kBadInput;
}

int report(const std::string& message, int status) {
  std::string line = message;
  for (char& c : line)
    if (c == '\n') c = ' ';
  std::cerr << "trireme: " << line << '\n';
  return status;
}

// OpenMP's threads spin for tens of milliseconds while they wait, which ruins every other process
// on a busy machine. Three are enough: waking a sleeping thread costs more than planning for a new
// shape takes. The runtime reads the setting only when the process starts.
void limit_spinning(char** argv) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "60000", 1);
  execv("/proc/self/exe", argv);  // returns only when it fails; then the old setting has to do
}

}  // namespace

int main(int argc, char** argv) {
  limit_spinning(argv);
  CLI::App app{
      "Trireme: build, train, run and serve networks, with Paddle's vocabulary and file formats"};
  app.set_version_flag("--version", "trireme " TRIREME_VERSION);
  app.require_subcommand(1);
  trireme::cli::add_predict(app);
  trireme::cli::add_bench(app);
  trireme::cli::add_graph(app);
  trireme::cli::add_ocr(app);
  trireme::cli::add_model(app);
  trireme::cli::add_doctor(app);
  trireme::cli::add_convert(app);
  trireme::cli::add_train(app);
  trireme::cli::add_export(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) { return app.exit(e); } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();
  } catch (const CLI::ParseError& e) {
    return report(e.what(), kUsage);
  } catch (const trireme::Error& e) {
    return report(e.what(), exit_status(e.code()));
  } catch (const std::bad_alloc&) {
    return report("out of memory", kResources);
  } catch (const std::exception& e) { return report(e.what(), kBadInput); }
  return 0;
}
