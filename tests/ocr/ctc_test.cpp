// CTC decoding, batches of lines, dictionaries and the folder of models.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ocr/ctc.h"
#include "ocr/model_folder.h"
#include "ocr/recognizer.h"
#include "support/temp.h"

namespace trireme::ocr {
namespace {

namespace fs = std::filesystem;

// A row per step with the given probability for one class and the rest spread evenly.
std::vector<float> rows(const std::vector<std::pair<int, float>>& steps, int classes) {
  std::vector<float> values;
  for (const auto& [best, probability] : steps)
    for (int c = 0; c < classes; ++c)
      values.push_back(c == best ? probability
                                 : (1 - probability) / static_cast<float>(classes - 1));
  return values;
}

TEST(DecodeCtc, JoinsRepeatsDropsBlanksAndAveragesTheKept) {
  const Dictionary dictionary = {"中", "a", "b"};
  const auto values =
      rows({{0, .9f}, {1, .8f}, {1, .99f}, {0, .9f}, {1, .6f}, {2, .7f}, {4, .5f}, {3, .9f}}, 5);
  const Reading reading = decode_ctc(values.data(), 8, 5, dictionary);
  EXPECT_EQ(reading.text, "中中a b");
  EXPECT_NEAR(reading.score, (.8 + .6 + .7 + .5 + .9) / 5, 1e-6);
  const auto blank = rows({{0, .9f}, {0, .9f}}, 5);
  EXPECT_EQ(decode_ctc(blank.data(), 2, 5, dictionary).text, "");
  EXPECT_EQ(decode_ctc(blank.data(), 2, 5, dictionary).score, 0);
}

TEST(ArgMax, IsTheFirstOfTheLargest) {
  for (const int count : {1, 5, 31, 32, 33, 64, 100, 6625})
    for (int best = 0; best < count; best += std::max(1, count / 7)) {
      std::vector<float> values(static_cast<size_t>(count), -1.0f);
      values[static_cast<size_t>(best)] = 2;
      values.back() = 2;
      EXPECT_EQ(arg_max(values.data(), count), best) << count;
    }
  const std::vector<float> nan(40, std::numeric_limits<float>::quiet_NaN());
  const int index = arg_max(nan.data(), 40);
  EXPECT_TRUE(index >= 0 && index < 40);
}

TEST(PlanBatches, HoldsEveryLineOnceAndIsWideEnough) {
  const std::vector<double> ratios = {3, 20, 7, 8, 7.5, 1, 14, 13, 30, 2};
  for (const int most : {1, 2, 6, 100}) {
    std::vector<int> seen(ratios.size(), 0);
    for (const Batch& batch : plan_batches(ratios, 48, most)) {
      EXPECT_LE(batch.lines.size(), static_cast<size_t>(most));
      for (const size_t i : batch.lines) {
        ++seen[i];
        EXPECT_GE(batch.width, static_cast<int>(48 * ratios[i]));
        EXPECT_GE(batch.width, 160);
      }
    }
    EXPECT_EQ(seen, std::vector<int>(ratios.size(), 1)) << most;
  }
  EXPECT_TRUE(plan_batches({}, 48, 6).empty());
}

TEST(DictionaryFromText, OneCharacterALine) {
  EXPECT_EQ(dictionary_from_text("a\r\n中\n\n \nb"), (Dictionary{"a", "中", "", " ", "b"}));
  EXPECT_EQ(dictionary_from_text("a\n"), (Dictionary{"a"}));
}

TEST(YamlList, ReadsWhatPaddleWrites) {
  const char* text =
      "Global:\n  model_name: x\nPreProcess:\n  transform_ops:\n  - NormalizeImage:\n"
      "      mean:\n      - 0.485\n      - 0.456\n      std:\n      - 0.229\n"
      "PostProcess:\n  name: CTCLabelDecode\n  character_dict:\n  - 中\n  - '!'\n  - ''''\n"
      "  - \"\\u3000\"\n  - \"\\\"\"\n  - \\\n  - ':'\n  - '-'\n  - '0'\nOther: 1\n";
  EXPECT_EQ(yaml_list(text, "mean"), (std::vector<std::string>{"0.485", "0.456"}));
  EXPECT_EQ(yaml_list(text, "character_dict"),
            (std::vector<std::string>{"中", "!", "'", "　", "\"", "\\", ":", "-", "0"}));
  EXPECT_FALSE(yaml_list(text, "nothing"));
  EXPECT_THROW(yaml_list("a:\n- 'open\n", "a"), Error);
  EXPECT_THROW(yaml_list("a:\n- \"\\q\"\n", "a"), Error);
  EXPECT_THROW(yaml_list("a:\n- [1, 2]\n", "a"), Error);
}

class ModelFolderTest : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text = "x") {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  std::string failure() {
    try {
      open_model_folder(root_.string());
    } catch (const Error& e) { return e.what(); }
    return "";
  }
  test::TempFolder folder_;
  fs::path root_ = folder_.path();
};

TEST_F(ModelFolderTest, KnowsBothLayouts) {
  for (const char* name : {"det", "rec", "cls"}) write(std::string(name) + "/inference.pdmodel");
  write("dict.txt", "a\nb");
  ModelFolder folder = open_model_folder(root_.string());
  EXPECT_EQ(folder.recognizer, (root_ / "rec").string());
  EXPECT_EQ(folder.dictionary.size(), 2U);
  fs::remove_all(root_);
  write("ch_PP-OCRv4_det_infer/inference.pdmodel");
  write("PP-OCRv5_mobile_rec/inference.json");
  write("PP-OCRv5_mobile_rec/inference.yml",
        "PostProcess:\n  character_dict:\n  - a\n  - b\n  - c\n");
  write("ppocr_keys_v1.txt", "a");
  folder = open_model_folder(root_.string());
  EXPECT_EQ(folder.classifier, "");
  EXPECT_EQ(folder.dictionary.size(), 3U);
}

TEST_F(ModelFolderTest, SaysWhatIsMissing) {
  EXPECT_NE(failure().find("det"), std::string::npos);
  write("det/inference.pdmodel");
  EXPECT_NE(failure().find("rec"), std::string::npos);
  write("rec/inference.pdmodel");
  EXPECT_NE(failure().find("dictionary"), std::string::npos);
  write("dict.txt", "a\xff");
  EXPECT_NE(failure().find("UTF-8"), std::string::npos);
  root_ /= "absent";
  EXPECT_NE(failure().find("no folder"), std::string::npos);
}

}  // namespace
}  // namespace trireme::ocr
