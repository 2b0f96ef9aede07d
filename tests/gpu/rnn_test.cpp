// Recurrent layers on the GPU against the CPU, forward and backward.
#include <gtest/gtest.h>

#include "support/distance.h"
#include "support/gpu.h"
#include "trireme/amp.h"
#include "trireme/autograd.h"
#include "trireme/nn_rnn.h"
#include "trireme/ops.h"

namespace trireme::test {
namespace {

Array noise(const Shape& shape, uint32_t seed) {
  Array t(DType::kFloat32, shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    t.as<float>()[i] = static_cast<float>(static_cast<double>(seed >> 8) / (1 << 23) - 1);
  }
  return t;
}

// Outputs, last states, gradients of the input, the states and all weights.
std::vector<Array> run(nn::RnnBase& layer, const char* device, bool lstm, bool states) {
  set_device(device);
  layer.to(device);
  const int64_t cells = layer.o.num_layers * (layer.o.direction == "forward" ? 1 : 2);
  const Shape state{cells, 6, layer.hidden_size};
  const Tensor x = to_tensor(noise({6, 11, 5}, 1), false);
  const Tensor h = states ? to_tensor(noise(state, 2), false) : Tensor();
  const Tensor c = states && lstm ? to_tensor(noise(state, 3), false) : Tensor();
  const nn::RnnResult r = layer.forward_all(x, h, c);
  const auto weighed = [](const Tensor& t, uint32_t seed) {
    return sum(cast(t, DType::kFloat32) * to_tensor(noise(t.shape(), seed)));
  };
  Tensor loss = weighed(r.outputs, 4) + weighed(r.h, 5);
  if (lstm) loss = loss + weighed(r.c, 6);
  loss.backward();
  std::vector<Tensor> results{r.outputs, r.h};
  if (lstm) results.push_back(r.c);
  for (const Tensor& t : {x, h, c})
    if (t.defined()) results.push_back(t.grad());
  for (const Tensor& w : layer.parameters()) { results.push_back(w.grad()); }
  std::vector<Array> arrays;
  for (const Tensor& t : results) arrays.push_back(t.numpy().to(DType::kFloat32));
  for (const Tensor& w : layer.parameters()) Tensor(w).clear_gradient();
  set_device("cpu");
  return arrays;
}

void check(nn::RnnBase& layer, bool lstm, const std::string& what) {
  SCOPED_TRACE(what);
  for (const bool states : {false, true}) {
    const std::vector<Array> want = run(layer, "cpu", lstm, states);
    const auto compare = [&](double limit) {
      const std::vector<Array> got = run(layer, "gpu:0", lstm, states);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_LE(distance(got[i], want[i]), limit) << "result " << i << " states " << states;
    };
    compare(2e-5);
    for (const DType half : {DType::kFloat16, DType::kBFloat16}) {
      SCOPED_TRACE(name_of(half));
      const amp::auto_cast scope(amp::AutoCastOptions{.dtype = half});
      compare(half == DType::kFloat16 ? 1e-2 : 6e-2);
    }
  }
  // Without gradients: the operator of inference.
  layer.eval();
  const no_grad off;
  const Array x = noise({6, 11, 5}, 1);
  set_device("cpu");
  layer.to("cpu");
  const Array want = layer.forward_all(to_tensor(x)).outputs.numpy();
  set_device("gpu:0");
  layer.to("gpu:0");
  EXPECT_LE(distance(layer.forward_all(to_tensor(x)).outputs.numpy(), want), 2e-5);
  set_device("cpu");
  layer.train();
}

TEST(GpuRnn, AgreesWithTheCpu) {
  TRI_NEEDS_GPU();
  set_device("cpu");
  seed(1);
  for (const int64_t layers : {1, 2})
    for (const char* direction : {"forward", "bidirect"}) {
      const nn::RnnOptions o{.num_layers = layers, .direction = direction};
      const std::string what = std::to_string(layers) + ' ' + direction;
      try {
        nn::LSTM lstm(5, 12, o);
        check(lstm, true, "LSTM " + what);
        nn::GRU gru(5, 12, o);
        check(gru, false, "GRU " + what);
        nn::SimpleRNN simple(5, 12, o);
        check(simple, false, "tanh " + what);
      } catch (const Error& e) { ADD_FAILURE() << what << ": " << e.message(); }
    }
  set_device("cpu");
}

}  // namespace
}  // namespace trireme::test
