// Metrics: Paddle's metric.Accuracy, Precision, Recall, Auc, and OCR's: word accuracy, edit
// distance, and hmean of boxes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/array.h"

namespace trireme::metric {

// Numbers gathered over batches, on the host. Not for several threads at once.
class Metric {
 public:
  virtual ~Metric() = default;
  virtual void reset() = 0;
  // `prediction` float32 [N, classes] (logits or probabilities); `label` int64 [N] or [N, 1].
  virtual void update(const Array& prediction, const Array& label) = 0;
  // "acc_top1" -> 0.93 ...; 0 before the first update.
  virtual std::vector<std::pair<std::string, double>> accumulate() const = 0;
};

// The share of samples whose label is among the k largest.
class Accuracy : public Metric {
 public:
  explicit Accuracy(std::vector<int> topk = {1});
  void reset() override;
  void update(const Array& prediction, const Array& label) override;
  std::vector<std::pair<std::string, double>> accumulate() const override;

 private:
  std::vector<int> topk_;
  std::vector<int64_t> correct_;
  int64_t count_ = 0;
};

// Precision, recall and F1 of each class by arg max, averaged over the classes that occur (macro).
class PrecisionRecall : public Metric {
 public:
  void reset() override;
  void update(const Array& prediction, const Array& label) override;
  std::vector<std::pair<std::string, double>> accumulate() const override;

 private:
  std::vector<int64_t> hits_, predicted_, labelled_;  // by class
};

// Of two classes: `prediction` [N] or [N, 1] has the probability of class 1, which counts as said
// from 0.5 on in Precision, above it in Recall (as Paddle rounds).
class Precision : public Metric {
 public:
  void reset() override { hits_ = said_ = 0; }
  void update(const Array& prediction, const Array& label) override;
  std::vector<std::pair<std::string, double>> accumulate() const override;  // "precision"

 private:
  int64_t hits_ = 0, said_ = 0;
};
class Recall : public Metric {
 public:
  void reset() override { hits_ = true_ = 0; }
  void update(const Array& prediction, const Array& label) override;
  std::vector<std::pair<std::string, double>> accumulate() const override;  // "recall"

 private:
  int64_t hits_ = 0, true_ = 0;
};

// The share of samples whose label is among the k largest.
double accuracy(const Array& input, const Array& label, int k = 1);

// Area under the ROC curve of two classes: `prediction` [N, 2] or [N, 1] has the probability of
// class 1, from num_thresholds buckets as Paddle does it.
class Auc : public Metric {
 public:
  explicit Auc(int num_thresholds = 4095);
  void reset() override;
  void update(const Array& prediction, const Array& label) override;
  std::vector<std::pair<std::string, double>> accumulate() const override;

 private:
  std::vector<int64_t> positive_, negative_;
};

// Texts read against texts written: PaddleOCR's RecMetric. "acc": equal texts; "norm_edit_dis": 1 -
// the mean of edit distance / longer length, by characters.
class TextAccuracy {
 public:
  explicit TextAccuracy(bool ignore_space = true) : ignore_space_(ignore_space) {}
  void reset();
  void update(std::string_view read, std::string_view written);
  std::vector<std::pair<std::string, double>> accumulate() const;

 private:
  bool ignore_space_;
  int64_t count_ = 0, equal_ = 0;
  double distance_ = 0;
};

// Outlines found against outlines drawn: PaddleOCR's DetMetric. Two match when they share more than
// half of what they cover together, each once. What is found mostly inside of an ignored outline
// does not count. "hmean", "precision", "recall".
class DetMetric {
 public:
  using Outline = std::vector<std::pair<float, float>>;  // x, y
  void reset() { matched_ = found_ = drawn_ = 0; }
  // Of one picture. Throws kInvalidArgument unless `ignored` has one for each of `drawn`.
  void update(const std::vector<Outline>& found, const std::vector<Outline>& drawn,
              const std::vector<bool>& ignored);
  std::vector<std::pair<std::string, double>> accumulate() const;

 private:
  int64_t matched_ = 0, found_ = 0, drawn_ = 0;
};

// Insertions, deletions and replacements of characters (UTF-8) between two texts.
int64_t edit_distance(std::string_view a, std::string_view b);

}  // namespace trireme::metric
