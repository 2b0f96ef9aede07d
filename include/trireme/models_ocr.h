// PP-OCRv4's mobile networks as layers: the recogniser (PP-LCNetV3, a small SVTR neck, CTC) and the
// detector (PP-LCNetV3, RSE-FPN, DB head with its loss).
//
// They are trained with several branches a convolution, each with its batch norm. With `deploy`
// each convolution is one with a bias, as in the released inference models: the form that
// load_released() fills.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/nn.h"

namespace trireme::models {

struct OcrOptions {
  int64_t num_classes = 6625;  // of the recogniser, the blank is class 0
  double scale = 0;            // of channels; 0: 0.95 (recogniser), 0.75 (detector)
  bool deploy = false;
  int64_t branches = 4;  // k x k convolutions side by side while training
};

// The backbone's stages "blocks2" ... "blocks6", behind "conv1". forward(): the last one's result.
struct PPLCNetV3 : nn::Layer {
  PPLCNetV3(bool detector, double scale, const OcrOptions& options);
  Tensor forward(const Tensor& x) override;
  std::vector<Tensor> stages_of(const Tensor& x);  // of each stage
  nn::Sequential conv1;
  std::vector<nn::Sequential> stages;
  std::vector<int64_t> channels;  // of each stage
};

// [N, 3, 48, W] -> [N, W / 8, classes]: logits in training (for ctc_loss, after a transpose to [W /
// 8, N, classes]), probabilities in evaluation.
struct PPOCRv4Recognizer : nn::Layer {
  explicit PPOCRv4Recognizer(const OcrOptions& options = {});
  Tensor forward(const Tensor& x) override;
  PPLCNetV3 backbone;
  nn::Sequential conv1, conv2, conv3, conv4, conv1x1;
  std::vector<std::shared_ptr<nn::Layer>> blocks;
  nn::LayerNorm norm;
  nn::Linear fc;
};

// [N, 3, H, W], sides multiples of 32 -> [N, 1, H, W], the probability of text; in training [N, 3,
// H, W]: that of shrunken text, the threshold, and 1 / (1 + exp(-50 (first - second))).
struct PPOCRv4Detector : nn::Layer {
  explicit PPOCRv4Detector(const OcrOptions& options = {});
  Tensor forward(const Tensor& x) override;
  PPLCNetV3 backbone;
  std::vector<nn::Conv2D> reduce;                        // of each stage's channels
  std::vector<std::shared_ptr<nn::Layer>> lateral, out;  // RSE layers of the FPN
  nn::Sequential binarize, thresh;
};

struct DBLossOptions {
  double alpha = 5, beta = 10, epsilon = 1e-6;
  // In place of the first Dice: binary cross-entropy over all pixels of text and the
  // negative_ratio times as many others whose loss is largest.
  bool balanced_cross_entropy = false;
  double negative_ratio = 3;
};
// PaddleOCR's DBLoss, of what the detector gives in training and of labels [N, H, W] float32: alpha
// Dice(shrunken text) + beta L1(threshold) + Dice(the third map). The masks are 1 where a pixel
// counts.
Tensor db_loss(const Tensor& maps, const Tensor& shrink_map, const Tensor& shrink_mask,
               const Tensor& threshold_map, const Tensor& threshold_mask,
               const DBLossOptions& options = {});

// The state of the deploy form that computes what this network, trained with branches, computes in
// evaluation: for set_state_dict() of one made with `deploy`.
nn::StateDict merged_branches(const nn::Layer& trained);

// Fills a network in its deploy form with the weights of a released inference model (a folder or a
// program's file), which are met in the order of use. What only training has (the detector's
// thresholds) stays. Throws kInvalidArgument, naming the first that does not fit.
void load_released(nn::Layer& network, const std::string& model, const std::string& params = {});

}  // namespace trireme::models
