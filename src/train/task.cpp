// Classification of pictures and recognition of text lines.
#include "train/task.h"

#include <algorithm>

#include "train/data.h"
#include "trireme/metric.h"
#include "trireme/nn_functional.h"
#include "trireme/ops.h"

namespace trireme::train {
namespace {

namespace F = nn::functional;

class Classification : public Task {
 public:
  Classification(const Config& loss, const Config& config) {
    const std::string name = loss.get("name", "cross_entropy");
    if (name != "cross_entropy") loss.fail("name", "expects cross_entropy, got " + name);
    options_.label_smoothing = loss.get("label_smoothing", 0.0);
    options_.ignore_index = loss.get("ignore_index", -100);
    const std::vector<std::string> names = config.get("metrics", std::vector<std::string>{"top1"});
    std::vector<int> topk;
    for (const std::string& m : names) {
      if (m.starts_with("top")) topk.push_back(std::max(1, std::atoi(m.c_str() + 3)));
      else if (m == "precision_recall") precision_ = true;
      else config.fail("metrics", "expects top1, top5 ..., precision_recall, got " + m);
    }
    if (topk.empty()) topk.push_back(1);
    accuracy_ = metric::Accuracy(topk);
  }

  Tensor predict(nn::Layer& model, const std::vector<Tensor>& batch) override {
    return model(batch.at(0));
  }
  Tensor loss(const Tensor& prediction, const std::vector<Tensor>& batch) override {
    return F::cross_entropy(prediction, batch.at(1), options_);
  }
  void reset() override {
    accuracy_.reset();
    precision_recall_.reset();
  }
  void update(const Array& prediction, const io::Batch& batch) override {
    accuracy_.update(prediction, batch.at(1));
    if (precision_) precision_recall_.update(prediction, batch.at(1));
  }
  Scalars accumulate() const override {
    Scalars all = accuracy_.accumulate();
    if (precision_)
      for (auto& s : precision_recall_.accumulate()) all.push_back(std::move(s));
    return all;
  }

 private:
  F::CrossEntropyOptions options_;
  metric::Accuracy accuracy_;
  metric::PrecisionRecall precision_recall_;
  bool precision_ = false;
};

// Batches: pictures, ids [N, L], lengths [N]. Networks answer [N, T, classes]: logits while they
// train, and probabilities or logits when they are judged (the arg max is the same).
class Recognition : public Task {
 public:
  Recognition(const Config& loss, vision::datasets::AlphabetPtr alphabet)
      : alphabet_(std::move(alphabet)) {
    const std::string name = loss.get("name", "ctc");
    if (name != "ctc") loss.fail("name", "expects ctc, got " + name);
    zero_infinity_ = loss.get("zero_infinity", true);
  }

  Tensor predict(nn::Layer& model, const std::vector<Tensor>& batch) override {
    return model(batch.at(0));
  }
  Tensor loss(const Tensor& prediction, const std::vector<Tensor>& batch) override {
    const Tensor steps =
        full({prediction.shape()[0]}, static_cast<double>(prediction.shape()[1]), DType::kInt64);
    return F::ctc_loss(transpose(prediction, {1, 0, 2}), batch.at(1), steps, batch.at(2), 0, "mean",
                       false, zero_infinity_);
  }
  void reset() override { accuracy_.reset(); }
  void update(const Array& prediction, const io::Batch& batch) override {
    const Shape& s = prediction.shape();
    const Array values = prediction.to(DType::kFloat32), ids = batch.at(1).to(DType::kInt64),
                lengths = batch.at(2).to(DType::kInt64);
    for (int64_t n = 0; n < s[0]; ++n) {
      std::vector<int64_t> read;
      int64_t before = 0;
      for (int64_t t = 0; t < s[1]; ++t) {
        const float* row = values.as<float>() + (n * s[1] + t) * s[2];
        const int64_t best = std::max_element(row, row + s[2]) - row;
        if (best != 0 && best != before) read.push_back(best);
        before = best;
      }
      const int64_t* text = ids.as<int64_t>() + n * ids.shape()[1];
      accuracy_.update(alphabet_->decode(read),
                       alphabet_->decode({text, text + lengths.as<int64_t>()[n]}));
    }
  }
  Scalars accumulate() const override { return accuracy_.accumulate(); }

 private:
  vision::datasets::AlphabetPtr alphabet_;
  bool zero_infinity_;
  metric::TextAccuracy accuracy_;
};

}  // namespace

std::unique_ptr<Task> make_task(const Config& config, const Data& data) {
  const Config loss = config.maybe("loss");
  if (data.detection) {
    (void)config.get("metrics", std::vector<std::string>{});
    return make_detection(loss);
  }
  if (data.alphabet) {
    (void)config.get("metrics", std::vector<std::string>{});
    return std::make_unique<Recognition>(loss, data.alphabet);
  }
  return std::make_unique<Classification>(loss, config);
}

}  // namespace trireme::train
