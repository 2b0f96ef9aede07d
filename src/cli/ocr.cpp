// trireme ocr: reads the text in pictures.
#include "trireme/ocr.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/model.h"
#include "cli/model_options.h"
#include "cli/verbs.h"

namespace fs = std::filesystem;

namespace trireme::cli {
namespace {

using Json = nlohmann::ordered_json;
using ocr::Line;
using ocr::Timing;

constexpr const char* kExtensions[] = {".jpg", ".jpeg", ".png", ".webp", ".bmp"};

struct Request {
  std::vector<std::string> files;
  ocr::Options options;
  std::string precision = "float32", json, draw, font;
  bool no_cls = false, no_dilation = false;
  int bench = 0;
  CLI::Option* json_option = nullptr;
};

struct Result {
  std::vector<Line> lines;
  Timing timing;
};

bool is_picture_name(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(std::begin(kExtensions), std::end(kExtensions), extension) !=
         std::end(kExtensions);
}

// A folder stands for the pictures in it.
std::vector<std::string> expand(const std::vector<std::string>& names) {
  std::vector<std::string> files;
  for (const std::string& name : names) {
    std::error_code ignored;
    if (!fs::is_directory(name, ignored)) {
      files.push_back(name);
      continue;
    }
    std::set<std::string> inside;
    for (const auto& entry : fs::directory_iterator(name))
      if (entry.is_regular_file() && is_picture_name(entry.path()))
        inside.insert(entry.path().string());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

std::vector<uint8_t> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) fail(Code::kNotFound, "[ocr] cannot read the file", path);
  return bytes;
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

Result run_once(ocr::Pipeline& pipeline, const std::vector<uint8_t>& bytes) {
  const auto start = std::chrono::steady_clock::now();
  const ocr::Image image = ocr::decode_image(bytes);
  const double decode = milliseconds_since(start);
  Result result;
  result.lines = pipeline.run(image, &result.timing);
  result.timing.decode = decode;
  result.timing.total = milliseconds_since(start);
  return result;
}

double median_of(const std::vector<Timing>& runs, double Timing::*stage) {
  std::vector<double> values;
  for (const Timing& run : runs) values.push_back(run.*stage);
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// The line's last word is the median of the whole.
void bench(ocr::Pipeline& pipeline, const std::vector<uint8_t>& bytes, const std::string& name,
           int runs) {
  const Result first = run_once(pipeline, bytes);
  std::vector<Timing> timings;
  for (int i = 0; i < runs; ++i) timings.push_back(run_once(pipeline, bytes).timing);
  const auto ms = [&](double Timing::*stage) { return median_of(timings, stage); };
  std::printf(
      "%s: %zu lines, median of %d runs in ms: decode %.1f, detect %.1f, post %.1f, crop %.1f, "
      "classify %.1f, recognize %.1f, total %.2f\n",
      name.c_str(), first.lines.size(), runs, ms(&Timing::decode), ms(&Timing::detect),
      ms(&Timing::post), ms(&Timing::crop), ms(&Timing::classify), ms(&Timing::recognize),
      ms(&Timing::total));
}

Json to_json(const std::vector<Line>& lines) {
  Json list = Json::array();
  for (const Line& line : lines) {
    Json box = Json::array();
    for (const ocr::Point& p : line.box)
      box.push_back({std::round(p.x * 100.0) / 100.0, std::round(p.y * 100.0) / 100.0});
    list.push_back(
        {{"box", box}, {"text", line.text}, {"score", std::round(line.score * 1e6) / 1e6}});
  }
  return list;
}

// Columns on a terminal: ideographs and full-width forms take two.
int columns_of(std::string_view text) {
  int columns = 0;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t code = length == 1 ? lead : lead & (0xffU >> (length + 1));
    for (size_t k = 1; k < length && i + k < text.size(); ++k)
      code = code << 6 | (static_cast<uint8_t>(text[i + k]) & 0x3f);
    const bool wide = (code >= 0x1100 && code < 0x1160) || (code >= 0x2e80 && code < 0xa4d0) ||
                      (code >= 0xac00 && code < 0xd7a4) || (code >= 0xf900 && code < 0xfb00) ||
                      (code >= 0xfe30 && code < 0xfe70) || (code >= 0xff00 && code < 0xff61) ||
                      (code >= 0xffe0 && code < 0xffe7) || code >= 0x20000;
    columns += wide ? 2 : 1;
    i += length;
  }
  return columns;
}

void print_table(const std::string& name, const Result& result, bool with_name) {
  if (with_name) std::printf("%s\n", name.c_str());
  int widest = 0;
  for (const Line& line : result.lines) widest = std::max(widest, columns_of(line.text));
  for (size_t i = 0; i < result.lines.size(); ++i) {
    const Line& line = result.lines[i];
    std::printf("%3zu  %.3f  %s%*s ", i + 1, line.score, line.text.c_str(),
                widest - columns_of(line.text), "");
    for (const ocr::Point& p : line.box) std::printf(" (%.0f, %.0f)", p.x, p.y);
    std::printf("\n");
  }
  if (result.lines.empty()) std::printf("  no text found\n");
}

// One line that is redrawn on a terminal, plain lines elsewhere; silent for a single file.
class Progress {
 public:
  explicit Progress(size_t files) : files_(files), terminal_(isatty(STDERR_FILENO) == 1) {}

  void done(size_t index, const std::string& name, const std::string& what) const {
    if (files_ < 2) return;
    if (!terminal_) {
      std::fprintf(stderr, "[%zu/%zu] %s: %s\n", index + 1, files_, name.c_str(), what.c_str());
      return;
    }
    constexpr size_t kWidth = 30;
    const size_t full = kWidth * (index + 1) / files_;
    std::fprintf(stderr, "\r\033[K[%s%s] %zu/%zu  %s", std::string(full, '#').c_str(),
                 std::string(kWidth - full, '.').c_str(), index + 1, files_, name.c_str());
    if (index + 1 == files_) std::fprintf(stderr, "\r\033[K");
  }
  void clear() const {
    if (files_ > 1 && terminal_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  size_t files_;
  bool terminal_;
};

void draw(const Request& request, const std::string& file, const std::vector<uint8_t>& bytes,
          const std::vector<Line>& lines) {
  fs::path target = request.draw;
  if (request.files.size() > 1) {
    fs::create_directories(target);
    target /= fs::path(file).stem().string() + ".png";
  }
  ocr::write_png(target.string(), ocr::draw(ocr::decode_image(bytes), lines, request.font));
}

// A line of text a line of the file.
std::string json_text(const Json& json) {
  std::string text = "{";
  for (const auto& [name, lines] : json.items()) {
    text += (text.size() > 1 ? ",\n " : "\n ") + Json(name).dump() + ": [";
    for (size_t i = 0; i < lines.size(); ++i) text += (i > 0 ? ",\n  " : "\n  ") + lines[i].dump();
    text += lines.empty() ? "]" : "\n ]";
  }
  return text + "\n}\n";
}

void write_json(const std::string& target, const Json& json) {
  const std::string text = json_text(json);
  if (target == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  std::ofstream file(target, std::ios::binary);
  file << text;
  file.close();
  if (!file) fail(Code::kInvalidArgument, "[ocr] cannot write the file", target);
}

// "--json a.jpg" means: JSON to standard output, and a.jpg is a picture. Nobody wants it
// overwritten.
void settle(Request& request) {
  if (is_picture_name(request.json)) {
    request.files.insert(request.files.begin(), request.json);
    request.json = "-";
  }
  if (request.json_option->count() > 0 && request.json.empty()) request.json = "-";
  request.files = expand(request.files);
  if (request.files.empty()) throw CLI::ValidationError("FILE", "expected one or more pictures");
  if (request.options.models.empty())
    request.options.models = fetched_model("ch_PP-OCRv4").string();
  request.options.use_angle_cls = !request.no_cls;
  request.options.use_dilation = !request.no_dilation;
  inference::Config config;
  config.set_device(request.options.device);
  config.set_precision(precision_of(request.precision));
  (void)announced_precision(config);
  request.options.precision = config.precision();
}

void one_file(const Request& request, ocr::Pipeline& pipeline, const std::string& file, Json& json,
              const Progress& progress, size_t index) {
  const std::vector<uint8_t> bytes = read_bytes(file);
  const std::string name = fs::path(file).filename().string();
  if (request.bench > 0) {
    bench(pipeline, bytes, name, request.bench);
    return;
  }
  const Result result = run_once(pipeline, bytes);
  char what[64];
  std::snprintf(what, sizeof what, "%zu lines, %.0f ms", result.lines.size(), result.timing.total);
  progress.done(index, name, what);
  if (!request.draw.empty()) draw(request, file, bytes, result.lines);
  if (request.json.empty()) print_table(file, result, request.files.size() > 1);
  else json[json.contains(name) ? file : name] = to_json(result.lines);
}

void run(Request request) {
  settle(request);
  const std::unique_ptr<ocr::Pipeline> pipeline = ocr::create_pipeline(request.options);
  const Progress progress(request.files.size());
  Json json = Json::object();
  size_t bad = 0;
  for (size_t i = 0; i < request.files.size(); ++i) {
    const std::string& file = request.files[i];
    try {
      one_file(request, *pipeline, file, json, progress, i);
    } catch (const Error& e) {
      if (request.files.size() == 1) throw e.location() == file ? Error(e) : e.at(file);
      progress.clear();
      std::fprintf(stderr, "trireme: %s\n", (e.location() == file ? e : e.at(file)).what());
      ++bad;
    }
  }
  if (!request.json.empty() && request.bench == 0) write_json(request.json, json);
  if (bad > 0)
    fail(Code::kInvalidArgument, "[ocr] " + std::to_string(bad) + " of " +
                                     std::to_string(request.files.size()) +
                                     " pictures could not be read");
}

void add_detector_options(CLI::App& verb, Request& request) {
  ocr::Options& options = request.options;
  const auto add = [&](const char* name, auto& value, const char* about,
                       const CLI::Validator& check) {
    verb.add_option(name, value, about)->check(check)->capture_default_str()->group("Detector");
  };
  const CLI::Range share(0.0, 1.0);
  add("--det-limit-type", options.det_limit_type,
      "The shorter side is at least (min), the longer at most (max)",
      CLI::IsMember({"min", "max"}));
  add("--det-limit-side-len", options.det_limit_side_len, "that many pixels", CLI::Range(32, 4096));
  add("--det-db-thresh", options.det_db_thresh, "A pixel is text above this", share);
  add("--det-db-box-thresh", options.det_db_box_thresh, "A box is text above this mean", share);
  add("--det-db-unclip-ratio", options.det_db_unclip_ratio, "How far boxes grow",
      CLI::Range(0.1, 10.0));
  verb.add_flag("--no-dilation", request.no_dilation, "Do not thicken the text map")
      ->group("Detector");
}

void add_line_options(CLI::App& verb, Request& request) {
  ocr::Options& options = request.options;
  const auto add = [&](const char* name, auto& value, const char* about,
                       const CLI::Validator& check) {
    verb.add_option(name, value, about)->check(check)->capture_default_str()->group("Lines");
  };
  verb.add_flag("--no-cls", request.no_cls, "Do not look for lines that stand on their head")
      ->group("Lines");
  add("--cls-thresh", options.cls_thresh, "A line is turned above this", CLI::Range(0.0, 1.0));
  add("--cls-batch-num", options.cls_batch_num, "Lines in one run of the classifier",
      CLI::Range(1, 256));
  add("--rec-batch-num", options.rec_batch_num, "Lines in one run of the recogniser",
      CLI::Range(1, 256));
  add("--drop-score", options.drop_score, "Lines below this score are left out",
      CLI::Range(0.0, 1.0));
}

void add_options(CLI::App& verb, Request& request) {
  verb.add_option("FILE", request.files, "Pictures (JPEG, PNG, WebP, BMP) or folders of them");
  verb.add_option("--models", request.options.models,
                  "Folder with det/, rec/, cls/ and the dictionary");
  verb.add_option("--det", request.options.det, "Folder of another detector");
  verb.add_option("--rec", request.options.rec,
                  "Folder of another recogniser (what `trireme train` exports)");
  verb.add_option("--dict", request.options.dict,
                  "Its characters, one a line (else dict.txt in its folder)");
  request.json_option = verb.add_option("--json", request.json,
                                        "Write boxes and text as JSON there (-: standard output)")
                            ->expected(0, 1);
  verb.add_option("--draw", request.draw,
                  "Draw boxes and text into this PNG; a folder for several pictures");
  verb.add_option("--font", request.font, "TrueType or OpenType font for --draw");
  verb.add_option("--bench", request.bench,
                  "Time this many runs; the last word is the median in ms")
      ->check(CLI::Range(1, 1000000));
  verb.add_option("--threads", request.options.threads, "Threads; 0: one for each core")
      ->check(CLI::Range(0, 1024));
  verb.add_option("--device", request.options.device, "Where the networks run: cpu, gpu:0")
      ->capture_default_str();
  add_precision(verb, request.precision);
  add_detector_options(verb, request);
  add_line_options(verb, request);
}

}  // namespace

void add_ocr(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("ocr", "Read the text in pictures (PP-OCR)");
  auto request = std::make_shared<Request>();
  add_options(*verb, *request);
  verb->callback([request] { run(*request); });
}

}  // namespace trireme::cli
