// Trains LeNet on digits that the project draws, and writes it as an inference model:
//   train_lenet [STEPS [FOLDER]]
#include <cstdio>
#include <cstdlib>

#include "trireme/datasets.h"
#include "trireme/jit.h"
#include "trireme/models.h"
#include "trireme/optimizer.h"

using namespace trireme;  // NOLINT: an example

int main(int argc, char** argv) {
  const int64_t steps = argc > 1 ? std::atoll(argv[1]) : 300;
  models::LeNet net;
  optimizer::Adam adam({.learning_rate = 1e-3, .parameters = net.parameters()});
  io::DataLoader loader(std::make_shared<vision::datasets::DrawnDigits>(steps * 64),
                        {.batch_size = 64, .shuffle = true, .num_workers = 2});
  for (int64_t step = 1; const io::Batch& batch : loader) {
    const Tensor loss = nn::functional::cross_entropy(net(batch[0]), batch[1]);
    loss.backward();
    adam.step();
    adam.clear_grad();
    if (step % 50 == 0 || step == steps) std::printf("step %ld: %.4f\n", step, loss.item());
    ++step;
  }
  if (argc > 2) jit::save(net, argv[2], {{{-1, 1, 28, 28}}});
}
