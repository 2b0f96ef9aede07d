// The verbs of the command line; each adds its subcommand, whose callback does the work and throws
// trireme::Error.
#pragma once

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace trireme::cli {

void add_predict(CLI::App& app);
void add_bench(CLI::App& app);
void add_graph(CLI::App& app);
void add_ocr(CLI::App& app);
void add_model(CLI::App& app);
void add_doctor(CLI::App& app);
void add_convert(CLI::App& app);
void add_train(CLI::App& app);
void add_export(CLI::App& app);
void add_train(CLI::App& app);
void add_export(CLI::App& app);

}  // namespace trireme::cli
