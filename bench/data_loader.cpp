// Pictures a second of the DataLoader: a folder of JPEGs to augmented batches of 224 x 224 floats.
//
// data_loader FOLDER [WORKERS [BATCH [EPOCHS]]]: FOLDER/<class>/*.jpg, as bench/data_loader.py
// reads it with torchvision. Prints a JSON object; the first epoch warms the file cache and is not
// counted.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "trireme/datasets.h"

namespace {

double pictures_per_second(trireme::io::DataLoader& loader) {
  const auto start = std::chrono::steady_clock::now();
  int64_t pictures = 0;
  for (const trireme::io::Batch& batch : loader) pictures += batch[0].shape()[0];
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(pictures) / seconds.count();
}

int run(int argc, char** argv) {
  namespace vision = trireme::vision;
  namespace t = vision::transforms;
  const auto number = [&](int at, int otherwise) { return argc > at ? atoi(argv[at]) : otherwise; };
  vision::datasets::PictureOptions options;
  options.transform =
      std::make_shared<t::Compose>(t::RandomResizedCrop(224), t::RandomHorizontalFlip());
  const auto dataset = vision::datasets::dataset_folder(argv[1], options);
  trireme::io::DataLoader loader(dataset, {.batch_size = number(3, 64),
                                           .shuffle = true,
                                           .num_workers = number(2, 2),
                                           .mean = {0.485f, 0.456f, 0.406f},
                                           .std = {0.229f, 0.224f, 0.225f}});
  pictures_per_second(loader);
  std::printf("{\"pictures\": %lld, \"pictures_per_s\": [",
              static_cast<long long>(dataset->size()));
  for (int epoch = 0; epoch < number(4, 3); ++epoch)
    std::printf("%s%.1f", epoch == 0 ? "" : ", ", pictures_per_second(loader));
  std::printf("]}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "data_loader FOLDER [WORKERS [BATCH [EPOCHS]]]\n");
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "data_loader: %s\n", e.what());
    return 1;
  }
}
