// Datasets, transforms and loaders from a config.
#include "train/data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "trireme/ops.h"

namespace trireme::train {
namespace {

namespace fs = std::filesystem;
namespace tf = vision::transforms;
namespace ds = vision::datasets;

int whole(const Config& c, const std::string& key, int64_t otherwise) {
  return static_cast<int>(c.get(key, otherwise));
}

// "size: 32" or "size: [height, width]" (Paddle's order).
vision::Size size_of_step(const Config& c, bool square) {
  const Config size = c.at("size");
  if (size.is_list()) {
    const std::vector<double> hw = c.get("size", std::vector<double>{});
    if (hw.size() != 2) c.fail("size", "expects one number, or [height, width]");
    return {static_cast<int>(hw[1]), static_cast<int>(hw[0])};
  }
  const int side = whole(c, "size", 0);
  if (side <= 0) c.fail("size", "expects a positive number");
  return {side, square ? side : 0};
}

std::vector<float> floats(const Config& c, const std::string& key) {
  const std::vector<double> values = c.get(key, std::vector<double>{});
  if (values.empty()) c.fail(key, "is missing");
  return {values.begin(), values.end()};
}

template <class T, class... Args> tf::TransformPtr step(Args&&... args) {
  return std::make_shared<const T>(std::forward<Args>(args)...);
}

tf::TransformPtr shape_step(const std::string& name, const Config& c) {
  if (name == "Resize") return step<tf::Resize>(size_of_step(c, false));
  if (name == "ResizeLine")
    return step<tf::ResizeLine>(whole(c, "height", 48), whole(c, "width", 320),
                                static_cast<uint8_t>(whole(c, "fill", 0)));
  if (name == "RandomResizedCrop")
    return step<tf::RandomResizedCrop>(size_of_step(c, true), c.get("min_scale", 0.08),
                                       c.get("max_scale", 1.0));
  if (name == "CenterCrop") return step<tf::CenterCrop>(size_of_step(c, true));
  if (name == "RandomCrop")
    return step<tf::RandomCrop>(size_of_step(c, true), tf::Padding::all(whole(c, "padding", 0)));
  if (name == "RandomHorizontalFlip") return step<tf::RandomHorizontalFlip>(c.get("prob", 0.5));
  if (name == "RandomVerticalFlip") return step<tf::RandomVerticalFlip>(c.get("prob", 0.5));
  if (name == "RandomRotation") return step<tf::RandomRotation>(c.get("degrees", 10.0));
  if (name == "PerspectiveWarp")
    return step<tf::PerspectiveWarp>(c.get("prob", 0.5), c.get("distortion_scale", 0.5));
  return nullptr;
}

tf::TransformPtr look_step(const std::string& name, const Config& c) {
  if (name == "ColorJitter")
    return step<tf::ColorJitter>(c.get("brightness", 0.0), c.get("contrast", 0.0),
                                 c.get("saturation", 0.0), c.get("hue", 0.0));
  if (name == "Grayscale") return step<tf::Grayscale>(whole(c, "num_output_channels", 1));
  if (name == "RandomErasing") return step<tf::RandomErasing>(c.get("prob", 0.5));
  if (name == "GaussianBlur")
    return step<tf::GaussianBlur>(c.get("min_sigma", 0.1), c.get("max_sigma", 2.0));
  if (name == "MotionBlur") return step<tf::MotionBlur>(whole(c, "max_length", 9));
  if (name == "BackgroundNoise")
    return step<tf::BackgroundNoise>(c.get("sigma", 12.0), c.get("shade", 40.0));
  if (name == "JpegArtefacts")
    return step<tf::JpegArtefacts>(whole(c, "min_quality", 20), whole(c, "max_quality", 80));
  if (name == "Transpose") return step<tf::Transpose>();
  if (name == "ToTensor") return step<tf::ToTensor>();
  if (name == "Normalize") return step<tf::Normalize>(floats(c, "mean"), floats(c, "std"));
  return nullptr;
}

std::string found(const std::string& path, const std::string& base) {
  if (path.empty() || fs::path(path).is_absolute() || fs::exists(path)) return path;
  const fs::path beside = fs::path(base) / path;
  return fs::exists(beside) ? beside.string() : path;
}

tf::TransformPtr transform_of(const Config& c) {
  const std::string name = c.need("name");
  tf::TransformPtr made = shape_step(name, c);
  if (!made) made = look_step(name, c);
  if (!made) c.fail("name", "is no transform: " + name);
  return made;
}

// A list of steps by their Paddle names: [{name: RandomCrop, size: 32, padding: 4}, ...].
tf::TransformPtr make_transform(const std::vector<Config>& steps) {
  std::vector<tf::TransformPtr> all;
  for (const Config& c : steps) all.push_back(transform_of(c));
  return std::make_shared<const tf::Compose>(std::move(all));
}

bool is(const Config& step, const char* name) { return step.get("name", "") == name; }

// `pixels`, when not null, takes over ToTensor and Normalize at the end.
ds::PictureOptions picture_options(const Config& c, Pixels* pixels) {
  ds::PictureOptions options;
  if (c.has("transforms")) {
    std::vector<Config> steps = c.at("transforms").entries();
    const size_t n = steps.size();
    if (pixels != nullptr && n >= 2 && is(steps[n - 1], "Normalize") &&
        is(steps[n - 2], "ToTensor")) {
      *pixels = {floats(steps.back(), "mean"), floats(steps.back(), "std")};
      steps.erase(steps.end() - 2, steps.end());
    }
    options.transform = make_transform(steps);
  }
  const std::string colour = c.get("colour", "rgb");
  if (colour == "bgr") options.colour = vision::Colour::kBgr;
  else if (colour == "gray") options.colour = vision::Colour::kGray;
  else if (colour != "rgb") c.fail("colour", "expects rgb, bgr or gray, got " + colour);
  return options;
}

io::OnError on_error(const Config& c) {
  const std::string what = c.get("on_error", "raise");
  if (what == "skip") return io::OnError::kSkipAndCount;
  if (what != "raise") c.fail("on_error", "expects raise or skip, got " + what);
  return io::OnError::kRaise;
}

// Parts of one set: shares drawn by a seed (split: [3, 1, 1], part: train | eval | test), or every
// so-many-th sample held out (hold_out: 5, part: train | eval).
io::DatasetPtr part_of(const Config& c, io::DatasetPtr all) {
  static constexpr const char* kParts[] = {"train", "eval", "test"};
  const std::vector<double> shares = c.get("split", std::vector<double>{});
  const int64_t nth = c.get("hold_out", 0);
  if (shares.empty() && nth <= 0) return all;
  if (!shares.empty() && nth > 0) c.fail("split", "cannot stand beside hold_out");
  const size_t parts = shares.empty() ? 2 : shares.size();
  if (parts != 2 && parts != 3) c.fail("split", "expects shares of train, eval and test");
  const std::string part = c.get("part", "train");
  const auto chosen = static_cast<size_t>(std::find(kParts, kParts + parts, part) - kParts);
  if (chosen == parts)
    c.fail("part", std::string("expects train") + (parts == 2 ? " or eval" : ", eval or test") +
                       ", got " + part);
  if (shares.empty()) {
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < all->size(); ++i)
      if ((i % nth == nth - 1) == (chosen == 1)) indices.push_back(i);
    return std::make_shared<io::Subset>(std::move(all), std::move(indices));
  }
  double whole_share = 0;
  for (const double share : shares) {
    if (!(share > 0)) c.fail("split", "expects positive shares");
    whole_share += share;
  }
  std::vector<int64_t> lengths(parts, 0);
  lengths[0] = all->size();
  for (size_t i = 1; i < parts; ++i) {
    lengths[i] = std::llround(static_cast<double>(all->size()) * shares[i] / whole_share);
    lengths[0] -= lengths[i];
  }
  if (*std::min_element(lengths.begin(), lengths.end()) <= 0)
    c.fail("split", "leaves a part of the " + std::to_string(all->size()) + " samples empty");
  return io::random_split(all, lengths, static_cast<uint64_t>(c.get("split_seed", 0)))[chosen];
}

// The part of the set that the config asks for, of which `limit` samples.
io::DatasetPtr chosen_samples(const Config& c, io::DatasetPtr all) {
  all = part_of(c, std::move(all));
  const int64_t limit = c.get("limit", 0);
  if (limit > 0 && limit < all->size()) {
    std::vector<int64_t> indices;  // spread over the whole, so that every class is there
    for (int64_t i = 0; i < limit; ++i) indices.push_back(i * all->size() / limit);
    all = std::make_shared<io::Subset>(std::move(all), std::move(indices));
  }
  return all;
}

io::DatasetPtr labelled(const Config& c, const ds::LabelledFilesPtr& files, Data& data) {
  if (data.classes.empty()) data.classes = files->classes();
  if (files->classes() != data.classes)
    c.fail("dataset", "has other classes than the training data");
  data.num_classes = static_cast<int64_t>(data.classes.size());
  return chosen_samples(c, files);
}

io::DatasetPtr lines(const std::string& kind, const Config& c, Data& data, const std::string& base,
                     Pixels* pixels) {
  if (!data.alphabet) c.fail("dataset", "needs data.dictionary, a file with a character a line");
  data.num_classes = data.alphabet->size();
  const int64_t longest = c.get("max_length", 25);
  if (kind == "text_lines")
    return chosen_samples(c, std::make_shared<ds::TextLines>(
                                 found(c.need("label_file"), base), found(c.get("root", "."), base),
                                 data.alphabet, longest, picture_options(c, pixels), on_error(c)));
  ds::RenderOptions options;
  options.lexicon = found(c.get("lexicon", ""), base);
  options.fonts = c.get("fonts", std::vector<std::string>{});
  options.count = c.get("count", 10'000);
  options.seed = static_cast<uint64_t>(c.get("seed", 0));
  options.augment = c.get("augment", true);
  options.vary = c.get("vary", true);
  options.alphabet = data.alphabet;
  options.max_length = longest;
  const ds::PictureOptions picture = picture_options(c, pixels);
  options.transform = picture.transform;
  options.colour = picture.colour;
  return chosen_samples(c, std::make_shared<ds::RenderedLines>(options));
}

ds::PageOptions page_options(const Config& c, const std::string& base, vision::Colour colour) {
  ds::PageOptions options;
  options.lexicon = found(c.get("lexicon", ""), base);
  options.fonts = c.get("fonts", std::vector<std::string>{});
  options.count = c.get("count", 1000);
  options.seed = static_cast<uint64_t>(c.get("seed", 0));
  options.width = whole(c, "width", options.width);
  options.height = whole(c, "height", options.height);
  options.min_text = whole(c, "min_text", options.min_text);
  options.max_text = whole(c, "max_text", options.max_text);
  options.augment = c.get("augment", true);
  options.vary = c.get("vary", true);
  options.colour = colour;
  return options;
}

// Outlines on pictures, for a DB detector.
io::DatasetPtr outlines(const std::string& kind, const Config& c, Data& data,
                        const std::string& base, Pixels* pixels) {
  data.detection = true;
  data.num_classes = 1;
  ds::PictureOptions picture = picture_options(c, pixels);
  ds::DetectionOptions options;
  options.size = whole(c, "size", options.size);
  options.augment = c.get("random_crop", false);
  options.min_scale = c.get("min_scale", options.min_scale);
  options.max_scale = c.get("max_scale", options.max_scale);
  options.degrees = c.get("degrees", options.degrees);
  options.shrink_ratio = c.get("shrink_ratio", options.shrink_ratio);
  options.min_text_size = whole(c, "min_text_size", options.min_text_size);
  options.max_boxes = c.get("max_boxes", options.max_boxes);
  options.max_points = c.get("max_points", options.max_points);
  options.transform = std::move(picture.transform);
  options.colour = picture.colour;
  picture.transform = nullptr;
  io::DatasetPtr boxes;
  if (kind == "rendered_pages") {
    boxes = std::make_shared<ds::RenderedPages>(page_options(c, base, picture.colour));
  } else if (kind == "voc_boxes") {
    boxes = ds::outlines_of(std::make_shared<ds::VOCDataset>(
        found(c.need("root"), base), found(c.need("annotations"), base),
        c.get("classes", std::vector<std::string>{}), picture, on_error(c)));
  } else {
    boxes = std::make_shared<ds::TextBoxes>(found(c.need("label_file"), base),
                                            found(c.get("root", "."), base), picture, on_error(c));
  }
  return std::make_shared<ds::DetectionMaps>(chosen_samples(c, std::move(boxes)), options);
}

// `other`: the config of the set whose folder goes for one that names none.
io::DatasetPtr dataset(const Config& c, const Config& other, Data& data, const std::string& base,
                       Pixels* pixels) {
  const std::string kind = c.need("dataset");
  if (kind == "drawn_digits") {
    data.num_classes = 10;
    return chosen_samples(c, std::make_shared<ds::DrawnDigits>(
                                 c.get("count", 10'000), static_cast<uint64_t>(c.get("seed", 0))));
  }
  if (kind == "text_lines" || kind == "rendered_lines") return lines(kind, c, data, base, pixels);
  if (kind == "text_boxes" || kind == "voc_boxes" || kind == "rendered_pages")
    return outlines(kind, c, data, base, pixels);
  const std::string root = found((c.has("root") ? c : other).need("root"), base);
  if (const std::string hint = c.get("hint", ""); !fs::is_directory(root) && !hint.empty())
    c.fail("root", "is not there: " + root + "; " + hint);
  if (kind == "image_folder")
    return labelled(c, ds::dataset_folder(root, picture_options(c, pixels)), data);
  if (kind == "files_by_name")
    return labelled(c, ds::files_by_name(root, picture_options(c, pixels)), data);
  if (kind == "label_file") {
    data.num_classes = std::max(data.num_classes, c.get("num_classes", data.num_classes));
    if (data.num_classes <= 0) c.fail("num_classes", "is missing");
    int64_t skipped = 0;
    return chosen_samples(c,
                          ds::label_file(found(c.need("label_file"), base), root, data.num_classes,
                                         picture_options(c, pixels), on_error(c), &skipped));
  }
  c.fail("dataset",
         "expects drawn_digits, image_folder, files_by_name, label_file, text_lines, "
         "rendered_lines, text_boxes, voc_boxes or rendered_pages, got " +
             kind);
}

}  // namespace

Data make_data(const Config& config, uint64_t seed, const std::string& base, bool keep_bytes) {
  Data data;
  if (const std::string file = config.get("dictionary", ""); !file.empty())
    data.alphabet = std::make_shared<const ds::Alphabet>(
        ds::Alphabet::from_file(found(file, base), config.get("use_space", true)));
  const Config train = config.at("train"), eval = config.maybe("eval"), test = config.maybe("test");
  data.train = dataset(train, train, data, base, keep_bytes ? &data.train_pixels : nullptr);
  if (eval) data.eval = dataset(eval, train, data, base, keep_bytes ? &data.eval_pixels : nullptr);
  if (test)
    data.test =
        dataset(test, eval ? eval : train, data, base, keep_bytes ? &data.test_pixels : nullptr);
  io::DataLoaderOptions options;
  options.batch_size = data.batch_size = config.get("batch_size", 64);
  options.num_workers = whole(config, "num_workers", 2);
  options.prefetch_factor = whole(config, "prefetch_factor", 2);
  options.seed = seed;
  options.on_error = on_error(config);
  const io::DataLoaderOptions judged = options;
  options.shuffle = config.get("shuffle", true);
  options.drop_last = config.get("drop_last", true);
  if (data.train->size() < options.batch_size && options.drop_last)
    config.fail("batch_size", "is larger than the training data (" +
                                  std::to_string(data.train->size()) + " samples)");
  data.train_loader = std::make_unique<io::DataLoader>(data.train, options);
  if (data.eval) data.eval_loader = std::make_unique<io::DataLoader>(data.eval, judged);
  if (data.test) data.test_loader = std::make_unique<io::DataLoader>(data.test, judged);
  return data;
}

Tensor normalize_pixels(const Tensor& bytes, Pixels& pixels) {
  TRI_CHECK(bytes.dtype() == DType::kUInt8 && bytes.ndim() == 4,
            "[train] expected pictures uint8 [N, H, W, C], got " +
                std::string(name_of(bytes.dtype())) + ' ' + bytes.shape().str());
  if (!pixels.factor.defined()) {
    std::vector<float> factor, offset;
    for (size_t c = 0; c < static_cast<size_t>(bytes.size(3)); ++c) {
      const float m = pixels.mean.at(pixels.mean.size() == 1 ? 0 : c);
      const float s = pixels.std.at(pixels.std.size() == 1 ? 0 : c);
      factor.push_back(1 / (255 * s));
      offset.push_back(-m / s);
    }
    const Ints across{1, bytes.size(3), 1, 1};
    pixels.factor = reshape(to_tensor(factor), across);
    pixels.offset = reshape(to_tensor(offset), across);
  }
  const Tensor planes = transpose(bytes.astype(DType::kFloat32), {0, 3, 1, 2});
  return planes * pixels.factor + pixels.offset;
}

}  // namespace trireme::train
