// Training on GPUs: mixed precision learns what float32 learns; several devices in one process.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "support/gpu.h"
#include "trireme/amp.h"
#include "trireme/autograd.h"
#include "trireme/datasets.h"
#include "trireme/device.h"
#include "trireme/models.h"
#include "trireme/nn_functional.h"
#include "trireme/optimizer.h"

namespace trireme {
namespace {

// LeNet on drawn digits: the losses of `steps` steps.
class Digits {
 public:
  Digits(const std::string& device, amp::Level level, DType dtype)
      : level_(level),
        dtype_(dtype),
        scaler_({.enable = dtype == DType::kFloat16, .init_loss_scaling = 1024}) {
    set_device(device);
    seed(7);
    net_ = std::make_unique<models::LeNet>();
    adam_ = std::make_unique<optimizer::Adam>(
        optimizer::AdamOptions{.learning_rate = 1e-3, .parameters = net_->parameters()});
    if (level == amp::Level::O2) amp::decorate(*net_, *adam_, {.dtype = dtype});
  }
  double step(const io::Batch& batch) {
    Tensor loss;
    {
      const amp::auto_cast guard(
          {.enable = level_ != amp::Level::O0, .level = level_, .dtype = dtype_});
      loss = nn::functional::cross_entropy((*net_)(batch[0]), batch[1]);
    }
    const Tensor scaled = scaler_.scale(loss);
    scaled.backward();
    scaler_.minimize(*adam_, scaled);
    adam_->clear_grad();
    return loss.item();
  }
  std::vector<Tensor> weights() const { return net_->parameters(); }

 private:
  amp::Level level_;
  DType dtype_;
  std::unique_ptr<models::LeNet> net_;
  std::unique_ptr<optimizer::Adam> adam_;
  amp::GradScaler scaler_;
};

void each_batch(int64_t steps, const std::function<void(const io::Batch&)>& f) {
  io::DataLoader loader(std::make_shared<vision::datasets::DrawnDigits>(steps * 64),
                        {.batch_size = 64});
  for (const io::Batch& batch : loader) f(batch);
}

// The mean loss of the last ten of 150 steps.
double learn(amp::Level level, DType dtype) {
  Digits net("gpu:0", level, dtype);
  std::vector<double> losses;
  each_batch(150, [&](const io::Batch& batch) { losses.push_back(net.step(batch)); });
  EXPECT_NEAR(losses[0], 2.3, 0.4);
  double last = 0;
  for (size_t i = losses.size() - 10; i < losses.size(); ++i) last += losses[i] / 10;
  set_device("cpu");
  return last;
}

TEST(GpuTraining, MixedPrecisionLearnsWhatFloat32Learns) {
  TRI_NEEDS_GPU();
  const double single = learn(amp::Level::O0, DType::kFloat32);
  EXPECT_LT(single, 0.6);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16})
    for (const amp::Level level : {amp::Level::O1, amp::Level::O2})
      EXPECT_NEAR(learn(level, dtype), single, 0.1 + 0.1 * single)
          << (level == amp::Level::O1 ? "O1 " : "O2 ")
          << (dtype == DType::kFloat16 ? "float16" : "bfloat16");
}

TEST(GpuTraining, DevicesOfOneProcessTrainSideBySide) {
  std::string why;
  if (gpu_count(&why) < 2) GTEST_SKIP() << "fewer than two GPUs. " << why;
  Digits first("gpu:0", amp::Level::O0, DType::kFloat32),
      second("gpu:1", amp::Level::O0, DType::kFloat32);
  each_batch(12, [&](const io::Batch& batch) {
    set_device("gpu:0");
    const double loss = first.step(batch);
    set_device("gpu:1");
    EXPECT_EQ(second.step(batch), loss);
  });
  const std::vector<Tensor> a = first.weights(), b = second.weights();
  for (size_t i = 0; i < a.size(); ++i) {
    const Array x = a[i].numpy(), y = b[i].numpy();
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.bytes()), 0) << a[i].name();
  }
  set_device("cpu");
}

}  // namespace
}  // namespace trireme
