// Detection of text or things by a DB network.
#include <opencv2/core.hpp>

#include "image/db_boxes.h"
#include "train/task.h"
#include "trireme/metric.h"
#include "trireme/models_ocr.h"

namespace trireme::train {
namespace {

// Batches are DetectionMaps'.
class Detection : public Task {
 public:
  explicit Detection(const Config& loss) {
    const std::string name = loss.get("name", "db");
    if (name != "db") loss.fail("name", "expects db, got " + name);
    options_.alpha = loss.get("alpha", options_.alpha);
    options_.beta = loss.get("beta", options_.beta);
    const std::string main = loss.get("main", "dice");
    if (main != "dice" && main != "bce") loss.fail("main", "expects dice or bce, got " + main);
    options_.balanced_cross_entropy = main == "bce";
    options_.negative_ratio = loss.get("negative_ratio", options_.negative_ratio);
  }

  Tensor predict(nn::Layer& model, const std::vector<Tensor>& batch) override {
    return model(batch.at(0));
  }
  Tensor loss(const Tensor& prediction, const std::vector<Tensor>& batch) override {
    return models::db_loss(prediction.astype(DType::kFloat32), batch.at(1), batch.at(2),
                           batch.at(3), batch.at(4), options_);
  }
  void reset() override { metric_.reset(); }
  void update(const Array& prediction, const io::Batch& batch) override {
    const Shape& s = prediction.shape();
    TRI_CHECK(s.rank() == 4 && s[1] == 1,
              "[detection] the network must give [N, 1, H, W], got " + s.str());
    Array maps = prediction.to(DType::kFloat32);
    const int height = static_cast<int>(s[2]), width = static_cast<int>(s[3]);
    for (int64_t n = 0; n < s[0]; ++n) {
      const cv::Mat map(height, width, CV_32F, maps.as<float>() + n * s[2] * s[3]);
      std::vector<metric::DetMetric::Outline> found;
      for (const ocr::Candidate& c : ocr::boxes_from_map(map, width, height, {})) {
        found.emplace_back();
        for (const ocr::Point& p : c.box) found.back().emplace_back(p.x, p.y);
      }
      judge(found, batch, n);
    }
  }
  Scalars accumulate() const override { return metric_.accumulate(); }

 private:
  void judge(const std::vector<metric::DetMetric::Outline>& found, const io::Batch& batch,
             int64_t n) {
    const int64_t boxes = batch.at(5).shape()[1], points = batch.at(5).shape()[2];
    std::vector<metric::DetMetric::Outline> drawn;
    std::vector<bool> ignored;
    for (int64_t i = 0; i < boxes; ++i) {
      const uint8_t kind = batch.at(6).as<uint8_t>()[n * boxes + i];
      if (kind == 0) continue;
      const float* at = batch.at(5).as<float>() + (n * boxes + i) * points * 2;
      drawn.emplace_back();
      for (int64_t k = 0; k < points; ++k) drawn.back().emplace_back(at[2 * k], at[2 * k + 1]);
      ignored.push_back(kind == 2);
    }
    metric_.update(found, drawn, ignored);
  }

  models::DBLossOptions options_;
  metric::DetMetric metric_;
};

}  // namespace

std::unique_ptr<Task> make_detection(const Config& loss) {
  return std::make_unique<Detection>(loss);
}

}  // namespace trireme::train
