// Switches from the environment.
#include "base/switches.h"

#include <cstdlib>
#include <string>

namespace trireme {

bool listed(const char* variable, std::string_view name) {
  const char* value = std::getenv(variable);
  if (value == nullptr) return false;
  const std::string list = ',' + std::string(value) + ',';
  return list.find(',' + std::string(name) + ',') != std::string::npos;
}

}  // namespace trireme
