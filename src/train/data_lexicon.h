// Lexicon: lines of text drawn from templates and words.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/random_stream.h"

namespace trireme::vision::datasets {

// The format is in trireme/datasets.h, at RenderOptions.
class Lexicon {
 public:
  explicit Lexicon(const std::string& path);  // empty: the project's own
  std::string draw(RandomStream& random) const;
  std::string characters() const;  // that its lines can hold; many come twice

 private:
  std::string expand(std::string_view text, RandomStream& random, int depth) const;
  std::string field(std::string_view field, RandomStream& random, int depth) const;
  std::map<std::string, std::vector<std::string>> sections_;
};

}  // namespace trireme::vision::datasets
