// Pictures that stay bytes until they are on the device come out as the host's Normalize makes
// them.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/temp.h"
#include "train/data.h"
#include "trireme/vision.h"

namespace trireme::train {
namespace {

namespace fs = std::filesystem;

TEST(Pixels, AreNormalizedOnTheDeviceAsOnTheHost) {
  const test::TempFolder folder;
  for (int k = 0; k < 4; ++k) {
    const fs::path file = folder.path() / (k % 2 ? "b" : "a") / (std::to_string(k) + ".png");
    fs::create_directories(file.parent_path());
    vision::Image picture{7, 5, std::vector<uint8_t>(7 * 5 * 3)};
    for (size_t i = 0; i < picture.bgr.size(); ++i)
      picture.bgr[i] = static_cast<uint8_t>(37 * i + 11 * static_cast<size_t>(k));
    vision::write_png(file.string(), picture);
  }
  const Config config = Config::from_text(
      "batch_size: 4\nnum_workers: 0\nshuffle: false\n"
      "train: {dataset: image_folder, root: '" +
      folder.path().string() +
      "', transforms: [{name: Resize, size: [6, 6]}, {name: ToTensor}, {name: Normalize, "
      "mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}]}\n");
  Data host = make_data(config, 1, "");
  Data bytes = make_data(config, 1, "", true);
  EXPECT_FALSE(host.train_pixels.left());
  ASSERT_TRUE(bytes.train_pixels.left());
  io::Batch expected, raw;
  ASSERT_TRUE(host.train_loader->next(expected));
  ASSERT_TRUE(bytes.train_loader->next(raw));
  ASSERT_EQ(raw[0].dtype(), DType::kUInt8);
  const Array got = normalize_pixels(Tensor(raw[0]), bytes.train_pixels).numpy();
  ASSERT_EQ(got.shape(), expected[0].shape());
  for (int64_t i = 0; i < got.numel(); ++i)
    EXPECT_NEAR(got.as<float>()[i], expected[0].as<float>()[i], 2e-6);
}

}  // namespace
}  // namespace trireme::train
