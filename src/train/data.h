// Data of a training run, as a config describes it.
#pragma once

#include <memory>

#include "train/config.h"
#include "trireme/datasets.h"
#include "trireme/io.h"

namespace trireme::train {

struct Data {
  io::DatasetPtr train, eval;  // eval may be null
  std::unique_ptr<io::DataLoader> train_loader, eval_loader;
  std::vector<std::string> classes;        // of classification; may be empty
  int64_t num_classes = 0;                 // of labels, or of the alphabet
  vision::datasets::AlphabetPtr alphabet;  // of recognition, else null
  int64_t batch_size = 1;
};

// Relative paths in the config are relative to the folder `base` when they are not found otherwise.
Data make_data(const Config& config, uint64_t seed, const std::string& base);

// A list of steps by their Paddle names: [{name: RandomCrop, size: 32, padding: 4}, ...].
vision::transforms::TransformPtr make_transform(const Config& steps);

}  // namespace trireme::train
