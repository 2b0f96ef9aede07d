// Config: a YAML file read strictly: wrong types and keys that nobody asked for are errors with
// their place.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/error.h"

namespace YAML {
class Node;
}

namespace trireme::train {

// A map, a list or a value of the file. A copy refers to the same place. Every get() marks a key as
// known; check_unused() throws for the others, so that a misspelt key is not silently ignored.
class Config {
 public:
  static Config from_file(const std::string& path);
  static Config from_text(const std::string& text, const std::string& name = "config");

  // "key.sub=value"; the value is YAML. Maps on the way are made.
  void set(const std::string& assignment);

  bool has(const std::string& key) const;
  Config at(const std::string& key) const;     // a map or list below; throws when it is not there
  Config maybe(const std::string& key) const;  // empty when it is not there
  bool is_map() const;
  bool is_list() const;
  explicit operator bool() const { return file_ != nullptr; }

  std::string get(const std::string& key, const char* otherwise) const;
  std::string get(const std::string& key, const std::string& otherwise) const;
  int64_t get(const std::string& key, int64_t otherwise) const;
  int64_t get(const std::string& key, int otherwise) const {
    return get(key, static_cast<int64_t>(otherwise));
  }
  double get(const std::string& key, double otherwise) const;
  bool get(const std::string& key, bool otherwise) const;
  std::vector<double> get(const std::string& key, std::vector<double> otherwise) const;
  std::vector<std::string> get(const std::string& key, std::vector<std::string> otherwise) const;
  std::string need(const std::string& key) const;  // a text that must be there

  // Of a list: its entries. An entry that is a plain word reads as {name: word}.
  std::vector<Config> entries() const;

  void check_unused() const;  // of the whole file
  std::string text() const;   // the file with its overrides, as YAML
  [[noreturn]] void fail(const std::string& key, const std::string& message) const;

 private:
  struct File;
  Config(std::shared_ptr<File> file, const YAML::Node& node, std::string path);
  YAML::Node find(const std::string& key) const;
  template <class T> T convert(const std::string& key, T otherwise, const char* kind) const;
  std::string joined(const std::string& key) const;

  std::shared_ptr<File> file_;
  std::shared_ptr<YAML::Node> node_;
  std::string path_;
};

}  // namespace trireme::train
