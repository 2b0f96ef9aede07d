// The other parts of a training run, as a config describes them: network, optimizer, schedule.
#pragma once

#include <memory>
#include <string>

#include "train/config.h"
#include "trireme/datasets.h"
#include "trireme/layer.h"
#include "trireme/optimizer.h"

namespace trireme::train {

struct Model {
  std::shared_ptr<nn::Layer> layer;
  std::vector<int64_t> input_shape;  // of one sample, for export: [3, 224, 224]; -1: any
};

// `config` is the map `model`: name, its options, input_shape, pretrained. `num_classes` is the
// data's, where the config does not say; `alphabet` of text lines (null: none) tells which classes
// of a program's `dictionary` go on.
Model make_model(const Config& config, int64_t num_classes, const std::string& base,
                 const vision::datasets::Alphabet* alphabet = nullptr);

// `config` is the map `lr`. Steps are optimizer steps.
optimizer::lr::LRScheduler make_schedule(const Config& config, int64_t total_steps,
                                         int64_t steps_per_epoch);

std::unique_ptr<optimizer::Optimizer> make_optimizer(const Config& config,
                                                     const optimizer::LearningRate& rate,
                                                     const std::vector<Tensor>& parameters);

}  // namespace trireme::train
