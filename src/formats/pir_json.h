// Access to PIR's JSON in which every step is checked, and its types and attributes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/foreign.h"

namespace trireme {

using Json = nlohmann::json;

// Errors name `place_`, which the reader keeps at what is being read.
class PirJson {
 protected:
  explicit PirJson(std::string place) : place_(std::move(place)) {}

  [[noreturn]] void damaged(const std::string& what) const;
  const Json& member(const Json& object, const char* key) const;
  const Json& list(const Json& object, const char* key) const;
  const std::string& text(const Json& value, const char* what) const;
  int64_t integer(const Json& value, const char* what) const;
  std::vector<int64_t> integers(const Json& values, const char* what) const;
  void tensor_type(const Json& type, DType& dtype, Shape& shape, bool lenient = false) const;
  // `nested`: an array may stand here. monostate for kinds that no translation reads.
  ForeignAttr attribute(const Json& attr, bool nested) const;

  std::string place_;

 private:
  DType element_type(const Json& type) const;
  double floating(const Json& attr) const;
  ForeignAttr array(const Json& parts) const;
  ForeignAttr scalar(const Json& parts) const;
};

}  // namespace trireme
