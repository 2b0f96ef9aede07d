// Data of a training run, as a config describes it.
#pragma once

#include <memory>

#include "train/config.h"
#include "trireme/datasets.h"
#include "trireme/io.h"
#include "trireme/tensor.h"

namespace trireme::train {

// What is left to do with pictures on the device: (x / 255 - mean) / std.
struct Pixels {
  std::vector<float> mean, std;
  bool left() const { return !mean.empty(); }
  Tensor factor, offset;  // the same as x factor + offset, [1, C, 1, 1], made at the first use
};

struct Data {
  io::DatasetPtr train, eval, test;  // eval and test may be null
  std::unique_ptr<io::DataLoader> train_loader, eval_loader, test_loader;
  Pixels train_pixels, eval_pixels, test_pixels;
  std::vector<std::string> classes;        // of classification; may be empty
  int64_t num_classes = 0;                 // of labels, or of the alphabet
  vision::datasets::AlphabetPtr alphabet;  // of recognition, else null
  bool detection = false;                  // samples are DetectionMaps'
  int64_t batch_size = 1;
};

// Relative paths in the config are relative to the folder `base` when they are not found otherwise.
// `keep_bytes`: pictures stay uint8 [H, W, C], a quarter of the bytes on the way to a GPU; the
// ToTensor and Normalize at the end of their transforms go to train_pixels and eval_pixels.
Data make_data(const Config& config, uint64_t seed, const std::string& base,
               bool keep_bytes = false);

// Field 0 of a batch, uint8 [N, H, W, C], as float32 [N, C, H, W] by `pixels`, on its device.
Tensor normalize_pixels(const Tensor& bytes, Pixels& pixels);

}  // namespace trireme::train
