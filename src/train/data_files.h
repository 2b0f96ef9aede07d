// What the datasets of files share: pictures of a folder, lines of a label file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trireme/datasets.h"

namespace trireme::vision::datasets {

// Pictures by ending (jpg, jpeg, png, webp, bmp), sorted; with `deep` those of folders below too.
std::vector<std::string> pictures_of(const std::string& folder, bool deep);

std::string text_of_file(const std::string& path);

// Calls use(line, number) for each line that is not empty, without its end. What it throws is an
// error at "path:number", or one more of the result under kSkipAndCount.
template <class F> int64_t each_line(const std::string& path, io::OnError on_error, F&& use) {
  const std::string text = text_of_file(path);
  int64_t skipped = 0, number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (number == 1 && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);
    if (line.empty()) continue;
    try {
      use(line, number);
    } catch (const Error& e) {
      if (on_error == io::OnError::kRaise) throw e.at(path + ":" + std::to_string(number));
      ++skipped;
    }
  }
  return skipped;
}

// The picture that a label file names; throws kNotFound when it is not there.
std::string named_picture(const std::string& root, std::string_view name);

Array scalar(int64_t value);

// Fields of a recogniser's sample behind the picture: ids, padded with zeros, and their number.
void append_text(io::Sample& sample, const std::vector<int64_t>& ids, int64_t max_length);

// Fields of a detector's sample behind the picture, as TextBoxes has them; an outline is x, y, x, y
// ...
void append_outlines(io::Sample& sample, const std::vector<std::vector<float>>& outlines,
                     const std::vector<uint8_t>& ignore);

}  // namespace trireme::vision::datasets
