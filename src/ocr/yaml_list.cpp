// The little of YAML that Paddle's inference.yml needs: block lists of scalars.
#include "ocr/model_folder.h"

namespace trireme::ocr {
namespace {

[[noreturn]] void fail_line(size_t line, const std::string& what) {
  fail(Code::kInvalidArgument, "[yaml] " + what, "line " + std::to_string(line));
}

void append_utf8(std::string& text, uint32_t code) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xe0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

uint32_t hex_number(std::string_view digits, size_t line) {
  uint32_t value = 0;
  for (const char c : digits) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) fail_line(line, "expected hexadecimal digits in an escape");
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
    fail_line(line, "an escape is no character");
  return value;
}

// What stands behind a backslash at `at`; moves `at` behind it.
uint32_t escaped(std::string_view text, size_t& at, size_t line) {
  constexpr std::string_view kNames = "0abtnvfre\"/\\ N_LP";
  constexpr uint32_t kCodes[] = {0,   7,   8,    9,   10,   11,   12,     13,    27,
                                 '"', '/', '\\', ' ', 0x85, 0xa0, 0x2028, 0x2029};
  const char name = at < text.size() ? text[at++] : '\0';
  const size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : name == 'U' ? 8 : 0;
  if (digits != 0) {
    if (text.size() - at < digits) fail_line(line, "an escape is cut off");
    at += digits;
    return hex_number(text.substr(at - digits, digits), line);
  }
  const size_t index = kNames.find(name);
  if (name == '\0' || index == std::string_view::npos) fail_line(line, "an unknown escape");
  return kCodes[index];
}

std::string quoted(std::string_view item, size_t line) {
  const char quote = item[0];
  std::string value;
  size_t at = 1;
  while (at < item.size()) {
    const char c = item[at++];
    if (c == quote) {
      const bool doubled = quote == '\'' && at < item.size() && item[at] == quote;
      if (!doubled && at != item.size()) fail_line(line, "text behind a closing quote");
      if (!doubled) return value;
      ++at;
      value += quote;
    } else if (c == '\\' && quote == '"') {
      append_utf8(value, escaped(item, at, line));
    } else {
      value += c;
    }
  }
  fail_line(line, "a quote is not closed");
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \r") - begin + 1);
}

std::string scalar(std::string_view item, size_t line) {
  if (item.empty()) return {};
  if (item[0] == '\'' || item[0] == '"') return quoted(item, line);
  constexpr std::string_view kOther = "[{&*!|>%@`#";
  if (item.size() > 1 && kOther.find(item[0]) != std::string_view::npos)
    fail_line(line, "expected a plain or quoted item");
  return std::string(item);
}

}  // namespace

std::optional<std::vector<std::string>> yaml_list(std::string_view text, std::string_view key) {
  const std::string head = std::string(key) + ":";
  std::optional<std::vector<std::string>> items;
  size_t indent = 0;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const std::string_view content = trimmed(row);
    if (content.empty()) continue;
    const size_t column = row.find_first_not_of(' ');
    const bool item = content == "-" || content.starts_with("- ");
    if (!items) {
      const bool found = content == head || (item && trimmed(content.substr(1)) == head);
      if (found) items.emplace();
      continue;
    }
    if (items->empty()) indent = column;
    if (!item || column != indent) break;
    items->push_back(scalar(trimmed(content.substr(1)), line));
  }
  return items;
}

}  // namespace trireme::ocr
