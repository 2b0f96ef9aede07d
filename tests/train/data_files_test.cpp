// Datasets of files: folders, label files, VOC, text; and what they say of bad data.
#include <gtest/gtest.h>

#include <fstream>

#include "support/data.h"
#include "support/temp.h"
#include "trireme/datasets.h"

namespace trireme::vision::datasets {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

void write_picture(const fs::path& path, uint8_t grey = 100, int width = 20, int height = 10) {
  fs::create_directories(path.parent_path());
  const auto bytes = static_cast<size_t>(width * height * 3);
  write_jpeg(path.string(), {width, height, std::vector<uint8_t>(bytes, grey)});
}

template <class F> Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) { return e; }
  return {Code::kInternal, "no error"};
}

bool says(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

TEST(DatasetFolder, ClassesAndFilesAreSorted) {
  const test::TempFolder folder;
  write_picture(folder.path() / "dog/b.jpg", 50);
  write_picture(folder.path() / "dog/a.JPEG", 60);
  write_picture(folder.path() / "cat/deep/c.jpg", 70);
  write(folder.path() / "cat/readme.txt", "no picture");
  const auto data = dataset_folder(folder.path().string());
  EXPECT_EQ(data->classes(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(data->labels(), (std::vector<int64_t>{0, 1, 1}));
  const io::Sample sample = (*data)[1];
  EXPECT_EQ(sample[0].shape(), (Shape{10, 20, 3}));
  EXPECT_NEAR(sample[0].as<uint8_t>()[0], 60, 2);
  EXPECT_EQ(*sample[1].as<int64_t>(), 1);
  EXPECT_EQ(ImageFolder(folder.path().string()).size(), 3);
}

TEST(DatasetFolder, EmptyOnesAndBrokenPicturesAreNamed) {
  const test::TempFolder folder;
  EXPECT_EQ(error_of([&] { dataset_folder(folder / "none"); }).code(), Code::kNotFound);
  EXPECT_TRUE(
      says(error_of([&] { dataset_folder(folder.path().string()); }), "a folder for each class"));
  fs::create_directories(folder / "empty");
  EXPECT_TRUE(says(error_of([&] { dataset_folder(folder.path().string()); }), "empty"));
  EXPECT_TRUE(says(error_of([&] { ImageFolder{folder.path().string()}; }), "no pictures"));
  for (int i = 0; i < 4; ++i) write_picture(folder / ("empty/" + std::to_string(i) + ".jpg"));
  fs::resize_file(folder / "empty/2.jpg", fs::file_size(folder / "empty/2.jpg") / 2);
  const auto data = dataset_folder(folder.path().string());
  io::DataLoader strict(data, {.batch_size = 4, .num_workers = 2});
  io::Batch batch;
  const Error error = error_of([&] { strict.next(batch); });
  EXPECT_TRUE(says(error, "damaged JPEG") && says(error, "sample 2") && says(error, "2.jpg"))
      << error.what();
  io::DataLoader lenient(
      data, {.batch_size = 4, .num_workers = 2, .on_error = io::OnError::kSkipAndCount});
  ASSERT_TRUE(lenient.next(batch));
  EXPECT_EQ(batch[0].shape()[0], 3);
  EXPECT_EQ(lenient.skipped(), 1);
}

TEST(FilesByName, TheClassStandsInFrontOfTheNumber) {
  const test::TempFolder folder;
  for (const char* name : {"rolled-in_scale_2.jpg", "crazing_10.jpg", "crazing_9.jpg"})
    write_picture(folder / name);
  const auto data = files_by_name(folder.path().string());
  EXPECT_EQ(data->classes(), (std::vector<std::string>{"crazing", "rolled-in_scale"}));
  EXPECT_EQ(data->labels(), (std::vector<int64_t>{0, 0, 1}));
  write_picture(folder / "oddly.jpg");
  EXPECT_TRUE(says(error_of([&] { files_by_name(folder.path().string()); }), "oddly.jpg"));
}

TEST(LabelFile, BadLinesAreNamedOrCounted) {
  const test::TempFolder folder;
  write_picture(folder / "a b.jpg");
  const std::string path = folder / "labels.txt", root = folder.path().string();
  write(path, "a b.jpg\t1\r\n\na b.jpg 0");
  EXPECT_EQ(label_file(path, root, 2)->labels(), (std::vector<int64_t>{1, 0}));
  const std::pair<const char*, const char*> bad[] = {
      {"a b.jpg\t2\n", "label 2 is not one of the 2 classes"},
      {"a b.jpg\t-1\n", "label -1"},
      {"a b.jpg\tone\n", "expected a label"},
      {"abjpg\n", "expected \"picture<TAB>label\""},
      {"gone.jpg\t1\n", "gone.jpg is not there"}};
  for (const auto& [line, message] : bad) {
    write(path, std::string("a b.jpg\t1\n") + line + "a b.jpg\t0\n");
    const Error error = error_of([&] { label_file(path, root, 2); });
    EXPECT_TRUE(says(error, message) && says(error, "labels.txt:2")) << error.what();
    int64_t skipped = 0;
    const auto data = label_file(path, root, 2, {}, io::OnError::kSkipAndCount, &skipped);
    EXPECT_EQ(data->size(), 2);
    EXPECT_EQ(skipped, 1);
  }
  write(path, "");
  EXPECT_TRUE(says(error_of([&] { label_file(path, root, 2); }), "names no picture"));
  EXPECT_EQ(error_of([&] { label_file(folder / "none", root, 2); }).code(), Code::kNotFound);
}

std::string xml(const std::string& name, const std::string& xmin) {
  return "<annotation><size><width>20</width><height>10</height></size>\n<object>\n<name>" + name +
         "</name><difficult>1</difficult>\n<bndbox><xmin>" + xmin +
         "</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object></annotation>";
}

TEST(VOCDataset, BoxesAndWhatIsWrongWithThem) {
  const test::TempFolder folder;
  const std::string images = folder / "images", notes = folder / "xml";
  write_picture(folder / "images/a.jpg");
  write_picture(folder / "images/b.jpg");
  write(folder / "xml/a.xml", xml("scratch", "3"));
  write(folder / "xml/b.xml", xml("hole", "1"));
  const VOCDataset data(images, notes);
  EXPECT_EQ(data.classes(), (std::vector<std::string>{"hole", "scratch"}));
  const io::Sample sample = data[0];
  ASSERT_EQ(sample[1].shape(), (Shape{1, 4}));
  const float* box = sample[1].as<float>();
  EXPECT_EQ(std::vector<float>(box, box + 4), (std::vector<float>{2, 1, 20, 10}));
  EXPECT_EQ(*sample[2].as<int64_t>(), 1);
  EXPECT_EQ(*sample[3].as<uint8_t>(), 1);
  const std::pair<std::string, const char*> bad[] = {
      {xml("hole", "30"), "outside of the picture"},
      {xml("hole", "three"), "expected a number in <xmin>"},
      {xml("", "1"), "no name"},
      {xml("rust", "1"), "\"rust\" is not one of the classes"},
      {"<annotation><size></annotation>", "damaged XML"},
      {"<other/>", "expected <annotation>"}};
  for (const auto& [text, message] : bad) {
    write(folder / "xml/b.xml", text);
    const Error error = error_of([&] { VOCDataset{images, notes, {"hole", "scratch"}}; });
    EXPECT_TRUE(says(error, message) && says(error, "b.xml")) << error.what();
    const VOCDataset rest(images, notes, {"hole", "scratch"}, {}, io::OnError::kSkipAndCount);
    EXPECT_EQ(rest.size(), 1);
    EXPECT_EQ(rest.skipped(), 1);
  }
  fs::remove(folder / "xml/b.xml");
  EXPECT_EQ(error_of([&] { VOCDataset{images, notes}; }).code(), Code::kNotFound);
}

TEST(Alphabet, NumbersAsPaddleOcr) {
  const test::TempFolder folder;
  write(folder / "dict.txt", "a\n发\n票\n");
  const Alphabet alphabet = Alphabet::from_file(folder / "dict.txt");
  EXPECT_EQ(alphabet.size(), 5);
  EXPECT_EQ(alphabet.encode("发票 a"), (std::vector<int64_t>{2, 3, 4, 1}));
  EXPECT_EQ(alphabet.decode({2, 0, 3}), "发票");
  EXPECT_TRUE(
      says(error_of([&] { (void)alphabet.encode("b"); }), "\"b\" is not in the dictionary"));
  EXPECT_TRUE(says(error_of([&] { (void)alphabet.encode("\xff"); }), "not UTF-8"));
  write(folder / "bad.txt", "a\nbc\n");
  EXPECT_TRUE(says(error_of([&] { Alphabet::from_file(folder / "bad.txt"); }), "bad.txt:2"));
}

TEST(TextLines, LabelFilesAndTheirFaults) {
  const test::TempFolder folder;
  write_picture(folder / "1.jpg");
  const std::string path = folder / "rec.txt", root = folder.path().string();
  const auto alphabet = std::make_shared<const Alphabet>(std::vector<std::string>{"a", "发"});
  write(path, "1.jpg\ta发\n1.jpg\t\n");
  const TextLines lines(path, root, alphabet, 3);
  ASSERT_EQ(lines.size(), 2);
  const io::Sample sample = lines[0];
  ASSERT_EQ(sample.size(), 3U);
  const int64_t* ids = sample[1].as<int64_t>();
  EXPECT_EQ(std::vector<int64_t>(ids, ids + 3), (std::vector<int64_t>{1, 2, 0}));
  EXPECT_EQ(*sample[2].as<int64_t>(), 2);
  for (const auto& [line, message] : {std::pair{"1.jpg a\n", "found no tab"},
                                      {"2.jpg\ta\n", "2.jpg is not there"},
                                      {"1.jpg\tb\n", "is not in the dictionary"},
                                      {"1.jpg\taaaa\n", "the most is 3"}}) {
    write(path, std::string("1.jpg\ta\n\n") + line);
    const Error error = error_of([&] { TextLines{path, root, alphabet, 3}; });
    EXPECT_TRUE(says(error, message) && says(error, "rec.txt:3")) << error.what();
    EXPECT_EQ(TextLines(path, root, alphabet, 3, {}, io::OnError::kSkipAndCount).skipped(), 1);
  }
  // A picture that goes missing later is named with its line.
  write(path, "1.jpg\ta\n");
  const auto late = std::make_shared<TextLines>(path, root, alphabet, 3);
  fs::remove(folder / "1.jpg");
  io::DataLoader loader(late, {});
  io::Batch batch;
  const Error error = error_of([&] { loader.next(batch); });
  EXPECT_TRUE(says(error, "rec.txt:1") && says(error, "1.jpg")) << error.what();
}

TEST(TextBoxes, JsonLists) {
  const test::TempFolder folder;
  write_picture(folder / "1.jpg");
  const std::string path = folder / "det.txt", root = folder.path().string();
  write(path,
        "1.jpg\t[{\"transcription\": \"x\", \"points\": [[1,2],[3,4],[5,6],[7,8.5]]},"
        "{\"transcription\": \"###\", \"points\": [[1,2],[3,4],[5,6],[7,8]]}]\n");
  const TextBoxes boxes(path, root);
  const io::Sample sample = boxes[0];
  EXPECT_EQ(sample[1].shape(), (Shape{2, 4, 2}));
  EXPECT_EQ(sample[1].as<float>()[7], 8.5f);
  EXPECT_EQ(sample[2].as<uint8_t>()[1], 1);
  for (const char* bad : {"[{]", "{}", "[1]", "[{\"points\": []}]", "[{\"transcription\": \"x\"}]",
                          "[{\"transcription\": \"x\", \"points\": [[1],[3,4],[5,6],[7,8]]}]"}) {
    write(path, std::string("1.jpg\t") + bad);
    EXPECT_TRUE(says(error_of([&] { TextBoxes{path, root}; }), "det.txt:1")) << bad;
  }
}

}  // namespace
}  // namespace trireme::vision::datasets
