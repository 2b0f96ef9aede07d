// Reading YAML with every key accounted for.
#include "train/config.h"

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>

namespace trireme::train {

struct Config::File {
  std::string name;
  YAML::Node root;
  std::set<std::string> known;  // "data.train.dataset"
};

namespace {

std::string place(const YAML::Node& node) {
  return node.Mark().is_null() ? std::string() : ':' + std::to_string(node.Mark().line + 1);
}

void collect_unknown(const YAML::Node& node, const std::string& path,
                     const std::set<std::string>& known, const std::string& file) {
  if (node.IsMap()) {
    for (const auto& pair : node) {
      const auto key = pair.first.as<std::string>();
      const std::string at = path.empty() ? key : path + '.' + key;
      if (!known.contains(at))
        trireme::fail(Code::kInvalidArgument, "[config] '" + at + "' means nothing here",
                      file + place(pair.first));
      collect_unknown(pair.second, at, known, file);
    }
  } else if (node.IsSequence()) {
    for (size_t i = 0; i < node.size(); ++i)
      collect_unknown(node[i], path + '[' + std::to_string(i) + ']', known, file);
  }
}

}  // namespace

Config::Config(std::shared_ptr<File> file, const YAML::Node& node, std::string path)
    : file_(std::move(file)), node_(std::make_shared<YAML::Node>(node)), path_(std::move(path)) {}

Config Config::from_text(const std::string& text, const std::string& name) {
  auto file = std::make_shared<File>();
  file->name = name;
  try {
    file->root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    trireme::fail(Code::kInvalidArgument, "[config] " + e.msg,
                  name + ':' + std::to_string(e.mark.line + 1));
  }
  if (!file->root.IsMap())
    trireme::fail(Code::kInvalidArgument, "[config] expects a map of keys", name);
  return {file, file->root, {}};
}

Config Config::from_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) trireme::fail(Code::kNotFound, "[config] cannot read the file", path);
  std::ostringstream text;
  text << in.rdbuf();
  return from_text(text.str(), path);
}

void Config::set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    trireme::fail(Code::kInvalidArgument,
                  "[config] an override expects key.sub=value, got '" + assignment + "'");
  try {
    const YAML::Node value = YAML::Load(assignment.substr(equals + 1));
    YAML::Node node = file_->root;  // node handles: reset() moves down without assigning
    std::istringstream keys(assignment.substr(0, equals));
    std::string key, next;
    std::getline(keys, key, '.');
    while (std::getline(keys, next, '.')) {
      YAML::Node below = node[key];
      if (!below.IsDefined() || below.IsNull()) {
        node[key] = YAML::Node(YAML::NodeType::Map);
        below.reset(node[key]);
      }
      if (!below.IsMap())
        trireme::fail(Code::kInvalidArgument,
                      "[config] '" + key + "' in '" + assignment + "' is not a map", file_->name);
      node.reset(below);
      key = next;
    }
    node[key] = value;
  } catch (const YAML::Exception& e) {
    trireme::fail(Code::kInvalidArgument, "[config] " + e.msg + " in '" + assignment + "'");
  }
}

std::string Config::joined(const std::string& key) const {
  return path_.empty() ? key : path_ + '.' + key;
}

void Config::fail(const std::string& key, const std::string& message) const {
  const YAML::Node node = node_ && node_->IsMap() && !key.empty() ? find(key) : YAML::Node();
  trireme::fail(
      Code::kInvalidArgument, "[config] '" + joined(key) + "' " + message,
      file_ ? file_->name + (node.IsDefined() ? place(node) : std::string()) : std::string());
}

YAML::Node Config::find(const std::string& key) const {
  file_->known.insert(joined(key));
  const YAML::Node& node = *node_;
  return node[key];
}

bool Config::has(const std::string& key) const {
  if (node_ == nullptr || !node_->IsMap()) return false;
  const YAML::Node node = find(key);
  return node.IsDefined() && !node.IsNull();
}

Config Config::maybe(const std::string& key) const {
  if (!has(key)) return {nullptr, YAML::Node(), joined(key)};
  return {file_, find(key), joined(key)};
}

Config Config::at(const std::string& key) const {
  if (!has(key)) fail(key, "is missing");
  return {file_, find(key), joined(key)};
}

bool Config::is_map() const { return file_ && node_->IsMap(); }
bool Config::is_list() const { return file_ && node_->IsSequence(); }

template <class T> T Config::convert(const std::string& key, T otherwise, const char* kind) const {
  if (!file_ || !has(key)) return otherwise;
  try {
    return find(key).as<T>();
  } catch (const YAML::Exception&) { fail(key, std::string("expects ") + kind); }
}

std::string Config::get(const std::string& key, const char* otherwise) const {
  return convert<std::string>(key, otherwise, "a text");
}
std::string Config::get(const std::string& key, const std::string& otherwise) const {
  return convert<std::string>(key, otherwise, "a text");
}
int64_t Config::get(const std::string& key, int64_t otherwise) const {
  return convert<int64_t>(key, otherwise, "a whole number");
}
double Config::get(const std::string& key, double otherwise) const {
  return convert<double>(key, otherwise, "a number");
}
bool Config::get(const std::string& key, bool otherwise) const {
  return convert<bool>(key, otherwise, "true or false");
}
std::vector<double> Config::get(const std::string& key, std::vector<double> otherwise) const {
  return convert(key, std::move(otherwise), "a list of numbers");
}
std::vector<std::string> Config::get(const std::string& key,
                                     std::vector<std::string> otherwise) const {
  return convert(key, std::move(otherwise), "a list of texts");
}
std::string Config::need(const std::string& key) const {
  if (!file_ || !has(key)) fail(key, "is missing");
  return get(key, "");
}

std::vector<Config> Config::entries() const {
  std::vector<Config> all;
  if (!file_ || !node_->IsSequence()) fail({}, "expects a list");
  for (size_t i = 0; i < node_->size(); ++i) {
    YAML::Node node = (*node_)[i];
    const std::string path = path_ + '[' + std::to_string(i) + ']';
    if (node.IsScalar()) {
      YAML::Node map(YAML::NodeType::Map);
      map["name"] = node.as<std::string>();
      node = map;
    }
    all.push_back({file_, node, path});
  }
  return all;
}

void Config::check_unused() const { collect_unknown(file_->root, {}, file_->known, file_->name); }

std::string Config::text() const {
  YAML::Emitter out;
  out << file_->root;
  return std::string(out.c_str()) + '\n';
}

}  // namespace trireme::train
