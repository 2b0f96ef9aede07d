// Datasets of pictures: folders, label files, VOC boxes, lines of text; and two that draw their
// own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/io.h"
#include "trireme/transforms.h"

namespace trireme::vision::datasets {

// How a file becomes field 0 of a sample: uint8 [H, W, C], or what the transforms make of it.
struct PictureOptions {
  transforms::TransformPtr transform;
  Colour colour = Colour::kRgb;
  int64_t max_pixels = kMaxPixels;
};

// Reads, decodes and transforms; throws with the file's name.
Array load_picture(const std::string& path, const PictureOptions& options, RandomStream& random);

// Files with a class each. Samples: picture, label (int64 []).
class LabelledFiles : public io::Dataset {
 public:
  // Throws kInvalidArgument for no files, or labels outside of [0, classes).
  LabelledFiles(std::vector<std::string> files, std::vector<int64_t> labels,
                std::vector<std::string> classes, PictureOptions options);
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override { return files_.at(static_cast<size_t>(index)); }
  const std::vector<std::string>& files() const { return files_; }
  const std::vector<int64_t>& labels() const { return labels_; }
  const std::vector<std::string>& classes() const { return classes_; }

 private:
  std::vector<std::string> files_;
  std::vector<int64_t> labels_;
  std::vector<std::string> classes_;
  PictureOptions options_;
};
using LabelledFilesPtr = std::shared_ptr<const LabelledFiles>;

// ROOT/<class>/**/<picture>: classes and files are sorted by name. Throws kNotFound for a folder
// that is not there, kInvalidArgument for one without classes, or a class without pictures.
// CIFAR-10 as JPEG files: dataset_folder(root + "/train").
LabelledFilesPtr dataset_folder(const std::string& root, const PictureOptions& options = {});

// Pictures of one folder, the class in front of the name's last '_' (crazing_12.jpg), as in NEU's.
LabelledFilesPtr files_by_name(const std::string& folder, const PictureOptions& options = {});

// A file with lines "picture<TAB or space>label", pictures relative to `root`. Malformed lines,
// labels outside of [0, classes) and missing pictures throw with file and line, or are left out and
// counted in *skipped.
LabelledFilesPtr label_file(const std::string& path, const std::string& root, int64_t classes,
                            const PictureOptions& options = {},
                            io::OnError on_error = io::OnError::kRaise, int64_t* skipped = nullptr);

// Paddle's ImageFolder: all pictures below ROOT without labels. Samples: picture.
class ImageFolder : public io::Dataset {
 public:
  explicit ImageFolder(const std::string& root, PictureOptions options = {});
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override { return files_.at(static_cast<size_t>(index)); }

 private:
  std::vector<std::string> files_;
  PictureOptions options_;
};

// Boxes from VOC's XML files. Samples: picture, boxes (float32 [n, 4]: x1, y1, x2, y2 in pixels of
// the file, from 0), labels (int64 [n]), difficult (uint8 [n]). n differs between samples: the
// loader needs a collate. Transforms do not move the boxes.
class VOCDataset : public io::Dataset {
 public:
  struct Box {
    float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
    int64_t label = 0;
    bool difficult = false;
  };
  // An XML file of `annotations` for each picture of `images`. `classes` empty: all names that
  // occur, sorted. Damaged XML, boxes outside of the picture, names that are not in `classes` and
  // missing pictures throw with file and line, or are left out (the whole file) and counted.
  VOCDataset(const std::string& images, const std::string& annotations,
             std::vector<std::string> classes = {}, PictureOptions options = {},
             io::OnError on_error = io::OnError::kRaise);
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override { return files_.at(static_cast<size_t>(index)); }
  const std::vector<Box>& boxes(int64_t index) const {
    return boxes_.at(static_cast<size_t>(index));
  }
  const std::vector<std::string>& classes() const { return classes_; }
  int64_t skipped() const { return skipped_; }

 private:
  std::vector<std::string> files_;
  std::vector<std::vector<Box>> boxes_;
  std::vector<std::string> classes_;
  PictureOptions options_;
  int64_t skipped_ = 0;
};

// ---- lines of text

// The characters a recogniser knows, in PaddleOCR's numbering: 0 is CTC's blank, then the
// dictionary's lines, then the space.
class Alphabet {
 public:
  // One character a line, UTF-8.
  static Alphabet from_file(const std::string& path, bool use_space = true);
  explicit Alphabet(std::vector<std::string> characters, bool use_space = true);

  int64_t size() const { return static_cast<int64_t>(characters_.size()); }  // with the blank
  const std::string& character(int64_t id) const { return characters_.at(static_cast<size_t>(id)); }
  // Throws kInvalidArgument for a character that is not known, or bytes that are not UTF-8.
  std::vector<int64_t> encode(std::string_view text) const;
  std::string decode(const std::vector<int64_t>& ids) const;  // no collapsing; blanks are left out

 private:
  std::vector<std::string> characters_;
  struct Ids;
  std::shared_ptr<const Ids> ids_;
};
using AlphabetPtr = std::shared_ptr<const Alphabet>;

// PaddleOCR's label file for recognisers: "picture<TAB>text", pictures relative to `root`. Samples:
// picture, ids (int64 [max_length], 0 behind the text), length (int64 []). Malformed lines, missing
// pictures, unknown characters and texts over max_length throw with file and line, or are left out
// and counted.
class TextLines : public io::Dataset {
 public:
  TextLines(const std::string& label_file, const std::string& root, AlphabetPtr alphabet,
            int64_t max_length, PictureOptions options = {},
            io::OnError on_error = io::OnError::kRaise);
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override;
  const std::string& text(int64_t index) const { return texts_.at(static_cast<size_t>(index)); }
  int64_t skipped() const { return skipped_; }

 private:
  std::string label_file_;
  std::vector<std::string> files_, texts_;
  std::vector<int64_t> lines_;  // of the label file
  AlphabetPtr alphabet_;
  int64_t max_length_;
  PictureOptions options_;
  int64_t skipped_ = 0;
};

// PaddleOCR's label file for detectors: "picture<TAB>[{"transcription": ..., "points": [[x, y], 4
// or more], ...}]". Samples: picture, points (float32 [n, p, 2]: p is the most of an outline here,
// 4 or more; shorter ones repeat their last), ignore (uint8 [n]: "###" and "*"). As VOCDataset, it
// needs a collate, or DetectionMaps around it.
class TextBoxes : public io::Dataset {
 public:
  TextBoxes(const std::string& label_file, const std::string& root, PictureOptions options = {},
            io::OnError on_error = io::OnError::kRaise);
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override { return files_.at(static_cast<size_t>(index)); }
  int64_t skipped() const { return skipped_; }

 private:
  std::vector<std::string> files_;
  std::vector<std::vector<std::vector<float>>> points_;  // of each picture, of each outline
  std::vector<std::vector<uint8_t>> ignore_;
  PictureOptions options_;
  int64_t skipped_ = 0;
};

// Lines drawn from fonts, text from a lexicon of templates: "开票日期：{date}" where {date},
// {amount}, {digits:8}, {number:1:300}, {letters:2} are drawn, {name} is a word of the section
// "[name]", and
// "[lines]" holds the templates. Sample i is a function of `seed` and i (and of the stream, which
// draws the looks: give `vary` false for the same looks each epoch).
struct RenderOptions {
  std::string lexicon;             // file; empty: invoice fields and drug names that come with it
  std::vector<std::string> fonts;  // files; empty: find_fonts()
  int64_t count = 10'000;
  uint64_t seed = 0;
  int height = 48, max_width = 640;
  bool augment = true, vary = true;
  Colour colour = Colour::kBgr;
  AlphabetPtr alphabet;                // needed for get(); without it text() and draw() work
  int64_t max_length = 40;             // longer texts are drawn again, with other words
  transforms::TransformPtr transform;  // behind the drawing; for batches, a ResizeLine
};
class RenderedLines : public io::Dataset {
 public:
  explicit RenderedLines(RenderOptions options);
  ~RenderedLines() override;
  int64_t size() const override { return options_.count; }
  // As TextLines'.
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string text(int64_t index) const;
  // uint8 [height, W, C], before `transform`.
  Array draw(int64_t index, RandomStream& random) const;

 private:
  struct Lexicon;
  struct Painters;
  RenderOptions options_;
  std::shared_ptr<const Lexicon> lexicon_;
  std::unique_ptr<Painters> painters_;
};

// Pages of such lines at random places and sizes, slightly turned, with rules and frames between
// them. Samples: as TextBoxes'. Page i is a function of `seed` and i (and of the stream, as above).
struct PageOptions {
  std::string lexicon;  // as RenderOptions'
  std::vector<std::string> fonts;
  int64_t count = 1000;
  uint64_t seed = 0;
  int width = 640, height = 640;
  int min_text = 14, max_text = 48;  // height of a line
  bool augment = true, vary = true;
  Colour colour = Colour::kBgr;
};
class RenderedPages : public io::Dataset {
 public:
  explicit RenderedPages(PageOptions options);
  int64_t size() const override { return options_.count; }
  io::Sample get(int64_t index, RandomStream& random) const override;

 private:
  PageOptions options_;
  std::shared_ptr<const RenderedLines> lines_;
};

// Scalable fonts of the system that can draw `sample`, sorted: the folders of $TRIREME_FONTS (with
// ':' between), or of the usual places. Throws kNotFound when there is none.
std::vector<std::string> find_fonts(const std::string& sample);

// ---- what a DB detector learns from

// VOC's boxes as outlines: samples as TextBoxes'. Difficult ones are ignored; classes are dropped.
io::DatasetPtr outlines_of(std::shared_ptr<const VOCDataset> boxes);

struct DetectionOptions {
  int size = 640;  // of the square that a sample shows, a multiple of 32
  // The picture turned, scaled and cut by chance; without, all of it, in its proportions.
  bool augment = false;
  double min_scale = 0.5, max_scale = 3, degrees = 10;
  // A core of the outline is what is learned: it moves inwards by area (1 - shrink_ratio^2) /
  // perimeter, and the threshold falls from max_threshold to min_threshold over that distance on
  // either side. Outlines lower or narrower than min_text_size count as ignored.
  double shrink_ratio = 0.4, min_threshold = 0.3, max_threshold = 0.7;
  int min_text_size = 8;
  int64_t max_boxes = 200, max_points = 16;  // of a sample's outlines
  transforms::TransformPtr transform;        // behind it; keeps the size
  Colour colour = Colour::kBgr;              // of the dataset's pictures
};

// Samples: picture, shrink_map, shrink_mask, threshold_map, threshold_mask (float32 [size, size],
// as models::db_loss takes them), outlines (float32 [max_boxes, max_points, 2], pixels of the
// sample, shorter ones repeat their last point), kinds (uint8 [max_boxes]: 0 none, 1 text, 2
// ignored). Reads samples as TextBoxes gives them; throws for more boxes or points than the most.
class DetectionMaps : public io::Dataset {
 public:
  DetectionMaps(io::DatasetPtr boxes, DetectionOptions options);
  int64_t size() const override { return boxes_->size(); }
  io::Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override { return boxes_->source(index); }

 private:
  io::DatasetPtr boxes_;
  DetectionOptions options_;
};

// Digits that the project draws itself: strokes, thickened, turned, sheared, shifted, noisy.
// Samples: picture (float32 [1, 28, 28], 0 to 1), label (int64 []). Sample i is a function of seed
// and i.
class DrawnDigits : public io::Dataset {
 public:
  explicit DrawnDigits(int64_t count = 10'000, uint64_t seed = 0);
  int64_t size() const override { return count_; }
  io::Sample get(int64_t index, RandomStream& random) const override;

 private:
  int64_t count_;
  uint64_t seed_;
};

}  // namespace trireme::vision::datasets
