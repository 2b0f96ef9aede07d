// Counting what was predicted against what was labelled.
#include "trireme/metric.h"

#include <algorithm>
#include <numeric>

namespace trireme::metric {
namespace {

struct Rows {
  Array values, labels;  // float32 [n, classes], int64 [n]
  int64_t n, classes;
};

Rows rows_of(const Array& prediction, const Array& label) {
  TRI_CHECK(prediction.shape().rank() == 2,
            "[metric] prediction expects shape [N, classes], got " + prediction.shape().str());
  TRI_CHECK(label.numel() == prediction.shape()[0], "[metric] label expects " +
                                                        std::to_string(prediction.shape()[0]) +
                                                        " classes, got " + label.shape().str());
  Rows r{prediction.to(DType::kFloat32), label.to(DType::kInt64), prediction.shape()[0],
         prediction.shape()[1]};
  for (int64_t i = 0; i < r.n; ++i) {
    const int64_t y = r.labels.as<int64_t>()[i];
    TRI_CHECK(y >= 0 && y < std::max<int64_t>(r.classes, 2),
              "[metric] label expects a class in [0, " + std::to_string(r.classes) + "), got " +
                  std::to_string(y));
  }
  return r;
}

double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::vector<std::string_view> characters_of(std::string_view text) {
  std::vector<std::string_view> all;
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    all.push_back(text.substr(i, end - i));
    i = end;
  }
  return all;
}

}  // namespace

Accuracy::Accuracy(std::vector<int> topk) : topk_(std::move(topk)), correct_(topk_.size(), 0) {
  TRI_CHECK(!topk_.empty(), "[metric] topk expects at least one number");
}

void Accuracy::reset() {
  std::fill(correct_.begin(), correct_.end(), 0);
  count_ = 0;
}

void Accuracy::update(const Array& prediction, const Array& label) {
  const Rows r = rows_of(prediction, label);
  for (int64_t i = 0; i < r.n; ++i) {
    const float* row = r.values.as<float>() + i * r.classes;
    const int64_t y = r.labels.as<int64_t>()[i];
    // Its place: how many are larger, or equal and earlier.
    int64_t place = 0;
    for (int64_t c = 0; c < r.classes; ++c)
      place += row[c] > row[y] || (row[c] == row[y] && c < y) ? 1 : 0;
    for (size_t k = 0; k < topk_.size(); ++k) correct_[k] += place < topk_[k] ? 1 : 0;
  }
  count_ += r.n;
}

std::vector<std::pair<std::string, double>> Accuracy::accumulate() const {
  std::vector<std::pair<std::string, double>> all;
  for (size_t k = 0; k < topk_.size(); ++k)
    all.emplace_back("acc_top" + std::to_string(topk_[k]), share(correct_[k], count_));
  return all;
}

namespace {

// f(probability, is) of each sample of two classes.
template <class F> void each_of_two(const Array& prediction, const Array& label, F&& f) {
  const Array p = prediction.to(DType::kFloat32), y = label.to(DType::kInt64);
  TRI_CHECK(p.numel() == y.numel() &&
                (p.shape().rank() == 1 || (p.shape().rank() == 2 && p.shape()[1] == 1)),
            "[metric] expects a prediction [N] or [N, 1] and as many labels, got " +
                p.shape().str() + " and " + y.shape().str());
  for (int64_t i = 0; i < p.numel(); ++i) {
    const int64_t is = y.as<int64_t>()[i];
    TRI_CHECK(is == 0 || is == 1, "[metric] a label expects 0 or 1, got " + std::to_string(is));
    f(p.as<float>()[i], is == 1);
  }
}

}  // namespace

void Precision::update(const Array& prediction, const Array& label) {
  each_of_two(prediction, label, [&](float p, bool is) {
    said_ += p >= 0.5F ? 1 : 0;
    hits_ += p >= 0.5F && is ? 1 : 0;
  });
}
std::vector<std::pair<std::string, double>> Precision::accumulate() const {
  return {{"precision", share(hits_, said_)}};
}
void Recall::update(const Array& prediction, const Array& label) {
  each_of_two(prediction, label, [&](float p, bool is) {
    true_ += is ? 1 : 0;
    hits_ += p > 0.5F && is ? 1 : 0;
  });
}
std::vector<std::pair<std::string, double>> Recall::accumulate() const {
  return {{"recall", share(hits_, true_)}};
}

double accuracy(const Array& input, const Array& label, int k) {
  Accuracy one({k});
  one.update(input, label);
  return one.accumulate()[0].second;
}

void PrecisionRecall::reset() {
  hits_.clear();
  predicted_.clear();
  labelled_.clear();
}

void PrecisionRecall::update(const Array& prediction, const Array& label) {
  const Rows r = rows_of(prediction, label);
  for (auto* counts : {&hits_, &predicted_, &labelled_})
    counts->resize(std::max(counts->size(), static_cast<size_t>(r.classes)), 0);
  for (int64_t i = 0; i < r.n; ++i) {
    const float* row = r.values.as<float>() + i * r.classes;
    const auto guess = static_cast<size_t>(std::max_element(row, row + r.classes) - row);
    const auto y = static_cast<size_t>(r.labels.as<int64_t>()[i]);
    ++predicted_[guess];
    ++labelled_[y];
    if (guess == y) ++hits_[y];
  }
}

std::vector<std::pair<std::string, double>> PrecisionRecall::accumulate() const {
  double precision = 0, recall = 0, f1 = 0;
  int64_t classes = 0;
  for (size_t c = 0; c < labelled_.size(); ++c) {
    if (labelled_[c] == 0) continue;
    const double p = share(hits_[c], predicted_[c]), q = share(hits_[c], labelled_[c]);
    precision += p;
    recall += q;
    f1 += p + q > 0 ? 2 * p * q / (p + q) : 0;
    ++classes;
  }
  const double n = static_cast<double>(std::max<int64_t>(classes, 1));
  return {{"precision", precision / n}, {"recall", recall / n}, {"f1", f1 / n}};
}

Auc::Auc(int num_thresholds)
    : positive_(static_cast<size_t>(num_thresholds) + 1, 0),
      negative_(static_cast<size_t>(num_thresholds) + 1, 0) {
  TRI_CHECK(num_thresholds > 0, "[metric] num_thresholds expects a positive number");
}

void Auc::reset() {
  std::fill(positive_.begin(), positive_.end(), 0);
  std::fill(negative_.begin(), negative_.end(), 0);
}

void Auc::update(const Array& prediction, const Array& label) {
  const Rows r = rows_of(prediction, label);
  for (int64_t i = 0; i < r.n; ++i) {
    const float p = r.values.as<float>()[i * r.classes + r.classes - 1];
    TRI_CHECK(p >= 0 && p <= 1, "[metric] auc expects probabilities");
    const auto bucket =
        static_cast<size_t>(static_cast<double>(p) * static_cast<double>(positive_.size() - 1));
    ++(r.labels.as<int64_t>()[i] != 0 ? positive_ : negative_)[bucket];
  }
}

std::vector<std::pair<std::string, double>> Auc::accumulate() const {
  double area = 0, pos = 0, neg = 0;
  for (size_t i = positive_.size(); i-- > 0;) {
    const double p = pos + static_cast<double>(positive_[i]);
    const double n = neg + static_cast<double>(negative_[i]);
    area += (n - neg) * (pos + p) / 2;
    pos = p;
    neg = n;
  }
  return {{"auc", pos > 0 && neg > 0 ? area / (pos * neg) : 0}};
}

int64_t edit_distance(std::string_view a, std::string_view b) {
  const std::vector<std::string_view> x = characters_of(a), y = characters_of(b);
  std::vector<int64_t> row(y.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < x.size(); ++i) {
    int64_t diagonal = row[0];
    row[0] = static_cast<int64_t>(i) + 1;
    for (size_t j = 0; j < y.size(); ++j) {
      const int64_t replaced = diagonal + (x[i] == y[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

void TextAccuracy::reset() {
  count_ = equal_ = 0;
  distance_ = 0;
}

void TextAccuracy::update(std::string_view read, std::string_view written) {
  std::string a(read), b(written);
  if (ignore_space_)
    for (std::string* s : {&a, &b}) std::erase(*s, ' ');
  const auto longer =
      static_cast<double>(std::max<size_t>({characters_of(a).size(), characters_of(b).size(), 1}));
  distance_ += static_cast<double>(edit_distance(a, b)) / longer;
  equal_ += a == b ? 1 : 0;
  ++count_;
}

std::vector<std::pair<std::string, double>> TextAccuracy::accumulate() const {
  return {{"acc", share(equal_, count_)},
          {"norm_edit_dis", count_ > 0 ? 1 - distance_ / static_cast<double>(count_) : 0}};
}

}  // namespace trireme::metric
