// einsum: pairs of operands contracted by matrix products.
#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "trireme/manipulation.h"
#include "trireme/math.h"

namespace trireme {
namespace {

// One character a dimension; those of "..." are '0', '1' ... from the last one on.
struct Operand {
  Tensor tensor;
  std::string labels;
};

[[noreturn]] void refuse(const std::string& why) {
  fail(Code::kInvalidArgument, "[einsum] " + why);
}

std::string expand_dots(std::string labels, size_t dots) {
  const size_t at = labels.find("...");
  std::string digits;
  for (size_t i = dots; i-- > 0;) digits += static_cast<char>('0' + i);
  if (at != std::string::npos) labels.replace(at, 3, digits);
  for (const char c : labels)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      refuse("the equation has an unexpected '" + std::string(1, c) + "'");
  return labels;
}

Ints sizes_of(const Operand& o, const std::string& labels) {
  Ints sizes;
  for (const char c : labels) sizes.push_back(o.tensor.size(static_cast<int>(o.labels.find(c))));
  return sizes;
}

int64_t product(const Ints& sizes) {
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  return n;
}

// Dimensions in the order of `labels`.
Operand ordered(const Operand& o, const std::string& labels) {
  Ints perm;
  for (const char c : labels) perm.push_back(static_cast<int64_t>(o.labels.find(c)));
  return {o.labels == labels ? o.tensor : transpose(o.tensor, perm), labels};
}

// A letter twice in one operand means its diagonal.
Operand without_repeats(Operand o) {
  for (size_t i = 0; i < o.labels.size(); ++i) {
    const size_t j = o.labels.find(o.labels[i], i + 1);
    if (j == std::string::npos) continue;
    const char c = o.labels[i];
    o.tensor = diagonal(o.tensor, 0, static_cast<int64_t>(i), static_cast<int64_t>(j));
    o.labels.erase(j, 1);
    o.labels.erase(i, 1);
    o.labels += c;
    i = static_cast<size_t>(-1);
  }
  return o;
}

// Sums over the letters that are not kept.
Operand summed(const Operand& o, const std::set<char>& kept) {
  Ints axes;
  std::string left;
  for (size_t i = 0; i < o.labels.size(); ++i) {
    if (kept.contains(o.labels[i])) left += o.labels[i];
    else axes.push_back(static_cast<int64_t>(i));
  }
  return axes.empty() ? o : Operand{sum(o.tensor, axes), left};
}

Operand contract(Operand a, Operand b, const std::set<char>& kept) {
  const auto in = [](const Operand& o, char c) { return o.labels.find(c) != std::string::npos; };
  std::set<char> kept_a = kept, kept_b = kept;
  kept_a.insert(b.labels.begin(), b.labels.end());
  kept_b.insert(a.labels.begin(), a.labels.end());
  a = summed(a, kept_a);
  b = summed(b, kept_b);
  std::string batch, inside, rows, columns;
  for (const char c : a.labels) (!in(b, c) ? rows : kept.contains(c) ? batch : inside) += c;
  for (const char c : b.labels)
    if (!in(a, c)) columns += c;
  for (const char c : batch + inside)
    if (sizes_of(a, {c}) != sizes_of(b, {c}))
      refuse("'" + std::string(1, c) + "' stands for different sizes in " + a.tensor.shape().str() +
             " and " + b.tensor.shape().str());
  const Ints outer = sizes_of(a, batch), m = sizes_of(a, rows), n = sizes_of(b, columns);
  const int64_t k = product(sizes_of(a, inside));
  const Tensor x =
      reshape(ordered(a, batch + rows + inside).tensor, {product(outer), product(m), k});
  const Tensor y =
      reshape(ordered(b, batch + inside + columns).tensor, {product(outer), k, product(n)});
  Ints shape = outer;
  shape.insert(shape.end(), m.begin(), m.end());
  shape.insert(shape.end(), n.begin(), n.end());
  const Tensor z = k == 1 ? x * y : matmul(x, y);
  return {reshape(z, shape), batch + rows + columns};
}

}  // namespace

Tensor einsum(const std::string& equation, const std::vector<Tensor>& operands) {
  std::string text;
  for (const char c : equation)
    if (c != ' ') text += c;
  const size_t arrow = text.find("->");
  std::vector<std::string> parts(1);
  for (const char c : text.substr(0, arrow)) {
    if (c == ',') parts.emplace_back();
    else parts.back() += c;
  }
  if (operands.empty() || parts.size() != operands.size())
    refuse("'" + equation + "' expects " + std::to_string(parts.size()) + " operands, got " +
           std::to_string(operands.size()));
  std::vector<Operand> list;
  size_t most_dots = 0;
  std::map<char, int> seen;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool dots = parts[i].find("...") != std::string::npos;
    const size_t letters = parts[i].size() - (dots ? 3 : 0);
    const auto rank = static_cast<size_t>(operands[i].ndim());
    if (letters > rank || (!dots && letters != rank))
      refuse("'" + parts[i] + "' does not fit the shape " + operands[i].shape().str());
    most_dots = std::max(most_dots, rank - letters);
    list.push_back({operands[i], expand_dots(parts[i], rank - letters)});
    for (const char c : list.back().labels) ++seen[c];
    list.back() = without_repeats(list.back());
  }
  std::string result =
      expand_dots(arrow == std::string::npos ? "..." : text.substr(arrow + 2), most_dots);
  if (arrow == std::string::npos)
    for (const auto& [c, count] : seen)
      if (count == 1 && std::isalpha(static_cast<unsigned char>(c))) result += c;
  for (const char c : result)
    if (!seen.contains(c) || std::count(result.begin(), result.end(), c) > 1)
      refuse("the result's '" + std::string(1, c) + "' expects to stand in an operand, and once");
  Operand left = list[0];
  for (size_t i = 1; i < list.size(); ++i) {
    std::set<char> kept(result.begin(), result.end());
    for (size_t j = i + 1; j < list.size(); ++j)
      kept.insert(list[j].labels.begin(), list[j].labels.end());
    left = contract(left, list[i], kept);
  }
  return ordered(summed(left, {result.begin(), result.end()}), result).tensor;
}

}  // namespace trireme
