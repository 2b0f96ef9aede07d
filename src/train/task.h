// Task: what a network is trained for: its loss, and how its predictions are judged.
#pragma once

#include <memory>
#include <string>

#include "train/config.h"
#include "train/progress.h"
#include "trireme/io.h"
#include "trireme/layer.h"
#include "trireme/tensor.h"

namespace trireme::train {

struct Data;

class Task {
 public:
  virtual ~Task() = default;
  // The network's answer to a batch (its fields as tensors), and the loss of that, a scalar.
  virtual Tensor predict(nn::Layer& model, const std::vector<Tensor>& batch) = 0;
  virtual Tensor loss(const Tensor& prediction, const std::vector<Tensor>& batch) = 0;

  // Judging, on the host. The first metric decides which checkpoint is the best; larger is better.
  virtual void reset() = 0;
  virtual void update(const Array& prediction, const io::Batch& batch) = 0;
  virtual Scalars accumulate() const = 0;
};

// By the data: "classification" (loss cross_entropy; metrics top1, top5, precision_recall),
// "recognition" (CTC; metrics acc, norm_edit_dis) or "detection" (DB; hmean, precision, recall).
std::unique_ptr<Task> make_task(const Config& config, const Data& data);
std::unique_ptr<Task> make_detection(const Config& loss);

}  // namespace trireme::train
