// What the project draws itself: lines of text, digits.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "support/temp.h"
#include "train/data_lexicon.h"
#include "trireme/datasets.h"

namespace trireme::vision::datasets {
namespace {

bool same(const Array& a, const Array& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

bool has_fonts() {
  try {
    return !find_fonts("发票").empty();
  } catch (const Error&) { return false; }
}

#define TRI_NEEDS_CJK_FONT() \
  if (!has_fonts()) GTEST_SKIP() << "no Chinese font (Debian: fonts-noto-cjk)"

// A font is asked for what lines can hold, and for nothing else.
TEST(Lexicon, CharactersAreThoseOfItsFields) {
  const test::TempFolder folder;
  const auto lexicon = [&](const char* line) {
    std::ofstream(folder / "l.txt") << "[lines]\n" << line << '\n';
    return Lexicon((folder / "l.txt").string());
  };
  EXPECT_EQ(lexicon("{letters:6}x").characters(), "ABCDEFGHIJKLMNOPQRSTUVWXYZx");
  for (const char* field : {"{digits:9}", "{letters:64}", "{date}", "{money}", "{amount}",
                            "{number:1:999}", "{digits:2}-{letters:3}"}) {
    const Lexicon drawn = lexicon(field);
    const std::string characters = drawn.characters();
    for (uint64_t i = 0; i < 100; ++i) {
      RandomStream random(i);
      for (const char c : drawn.draw(random))
        ASSERT_NE(characters.find(c), std::string::npos) << field << ": " << c;
    }
  }
}

TEST(Lexicon, TemplatesAreFilled) {
  const test::TempFolder folder;
  std::ofstream(folder / "l.txt")
      << "[lines]\n{who}-{digits:3}-{number:7:9}\n[who]\nA\nB{letters:1}\n";
  const Lexicon lexicon((folder / "l.txt").string());
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 200; ++i) {
    RandomStream random(i);
    const std::string line = lexicon.draw(random);
    ASSERT_TRUE(line.size() == 7 || line.size() == 8) << line;
    seen.insert(line);
  }
  EXPECT_GT(seen.size(), 150U);
  for (const char* bad :
       {"[who]\nA\n", "[lines]\n{nobody}\n", "[lines]\n{open\n", "[lines]\n{number:3}\n",
        "[lines]\n{lines}\n", "[lines]\n{digits:999}\n"}) {
    std::ofstream(folder / "l.txt") << bad;
    try {
      const Lexicon broken((folder / "l.txt").string());
      ADD_FAILURE() << bad;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("l.txt"), std::string::npos) << e.what();
    }
  }
}

TEST(RenderedLines, AreAFunctionOfSeedAndIndex) {
  TRI_NEEDS_CJK_FONT();
  const RenderedLines lines({.count = 50, .vary = false});
  const RenderedLines again({.count = 50, .vary = false}), other({.count = 50, .seed = 1});
  std::set<std::string> texts;
  for (int64_t i = 0; i < 12; ++i) {
    RandomStream a(1), b(2);
    const Array picture = lines.draw(i, a);
    EXPECT_EQ(picture.shape()[0], 48);
    EXPECT_LE(picture.shape()[1], 640);
    EXPECT_EQ(picture.shape()[2], 3);
    EXPECT_TRUE(same(picture, again.draw(i, b)));
    EXPECT_EQ(lines.text(i), again.text(i));
    texts.insert(lines.text(i));
    texts.insert(other.text(i));
  }
  EXPECT_GT(texts.size(), 20U);
  const RenderedLines varied({.count = 50});
  RandomStream a(1), b(2);
  EXPECT_FALSE(same(varied.draw(0, a), varied.draw(0, b)));
}

TEST(RenderedLines, GoThroughTheLoader) {
  TRI_NEEDS_CJK_FONT();
  std::vector<std::string> characters;
  for (const char* c : {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "票", "号"})
    characters.emplace_back(c);
  const test::TempFolder folder;
  std::ofstream(folder / "l.txt") << "[lines]\n票号{digits:6}\n";
  RenderOptions options{.lexicon = (folder / "l.txt").string(), .count = 40};
  options.alphabet = std::make_shared<const Alphabet>(characters);
  options.max_length = 12;
  options.transform = std::make_shared<transforms::ResizeLine>(48, 320);
  const auto lines = std::make_shared<RenderedLines>(options);
  std::vector<io::Batch> first;
  for (const int workers : {0, 2}) {
    io::DataLoader loader(lines, {.batch_size = 8, .shuffle = true, .num_workers = workers});
    size_t n = 0;
    for (const io::Batch& batch : loader) {
      if (workers == 0) first.push_back(batch);
      EXPECT_EQ(batch[0].shape(), (Shape{8, 48, 320, 3}));
      EXPECT_EQ(batch[1].shape(), (Shape{8, 12}));
      EXPECT_EQ(batch[2].as<int64_t>()[3], 8);
      EXPECT_TRUE(same(batch[0], first[n][0]) && same(batch[1], first[n][1]));
      ++n;
    }
    EXPECT_EQ(n, 5U);
  }
  RandomStream random;
  options.alphabet = std::make_shared<const Alphabet>(std::vector<std::string>{"票"});
  EXPECT_THROW(RenderedLines(options).get(0, random), Error);
  options.fonts = {"/nowhere.ttf"};
  EXPECT_THROW(RenderedLines{options}, Error);
}

TEST(DrawnDigits, TenClassesThatDiffer) {
  const DrawnDigits digits(2000, 3);
  std::vector<int> count(10);
  std::vector<std::vector<double>> mean(10, std::vector<double>(784));
  for (int64_t i = 0; i < 2000; ++i) {
    const io::Sample sample = digits[i];
    ASSERT_EQ(sample[0].shape(), (Shape{1, 28, 28}));
    const auto label = static_cast<size_t>(*sample[1].as<int64_t>());
    ASSERT_LT(label, 10U);
    ++count[label];
    for (size_t p = 0; p < 784; ++p) {
      ASSERT_TRUE(sample[0].as<float>()[p] >= 0 && sample[0].as<float>()[p] <= 1);
      mean[label][p] += sample[0].as<float>()[p];
    }
  }
  for (const int n : count) EXPECT_NEAR(n, 200, 60);
  // The nearest mean names most digits of another seed; chance would be 10 %.
  const DrawnDigits others(500, 4);
  int right = 0;
  for (int64_t i = 0; i < 500; ++i) {
    const io::Sample sample = others[i];
    int64_t best = 0;
    double least = 1e30;
    for (size_t d = 0; d < 10; ++d) {
      double distance = 0;
      for (size_t p = 0; p < 784; ++p) {
        const double x = mean[d][p] / count[d] - sample[0].as<float>()[p];
        distance += x * x;
      }
      if (distance < least) least = distance, best = static_cast<int64_t>(d);
    }
    right += best == *sample[1].as<int64_t>() ? 1 : 0;
  }
  EXPECT_GT(right, 325);
  EXPECT_TRUE(same(digits[7][0], DrawnDigits(2000, 3)[7][0]));
  EXPECT_THROW(digits[2000], Error);
}

}  // namespace
}  // namespace trireme::vision::datasets
