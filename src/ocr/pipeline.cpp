// The pipeline: detect, cut out, straighten, read.
#include <opencv2/core.hpp>
#include <optional>

#include "ocr/classifier.h"
#include "ocr/crop.h"
#include "ocr/detector.h"
#include "ocr/each_line.h"
#include "ocr/frame.h"
#include "ocr/model_folder.h"
#include "ocr/recognizer.h"
#include "ocr/stopwatch.h"

namespace trireme::ocr {
namespace {

// The number of threads is a setting of the calling thread; it gets its own back.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) : before_(num_threads()) {
    if (threads > 0) set_num_threads(threads);
  }
  ~ThreadLimit() { set_num_threads(before_); }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int before_;
};

class OcrPipeline final : public Pipeline {
 public:
  OcrPipeline(const Options& options, Detector detector, std::optional<Classifier> classifier,
              Recognizer recognizer)
      : options_(options),
        detector_(std::move(detector)),
        classifier_(std::move(classifier)),
        recognizer_(std::move(recognizer)) {}

  std::vector<Line> run(const Image& image, Timing* timing) override {
    Timing unused;
    Timing& times = timing != nullptr ? *timing : unused;
    times = Timing{};
    const ThreadLimit limit(options_.threads);
    try {
      Stopwatch total;
      std::vector<Line> lines = read(image, times);
      times.total = total.lap();
      return lines;
    } catch (const cv::Exception& e) {
      const bool memory = e.code == cv::Error::StsNoMem;
      fail(memory ? Code::kResourceExhausted : Code::kInternal, std::string("[ocr] ") + e.what());
    } catch (const std::bad_alloc&) {
      fail(Code::kResourceExhausted, "[ocr] no memory for a picture of " +
                                         std::to_string(image.width) + " x " +
                                         std::to_string(image.height));
    }
  }

  std::unique_ptr<Pipeline> clone() const override {
    std::optional<Classifier> classifier;
    if (classifier_) classifier.emplace(classifier_->clone());
    return std::make_unique<OcrPipeline>(options_, detector_.clone(), std::move(classifier),
                                         recognizer_.clone());
  }

 private:
  std::vector<Line> read(const Image& image, Timing& times) {
    Stopwatch watch;
    const Frame frame = frame_of(image);
    times.detect = watch.lap();
    const std::vector<Candidate> boxes = detector_.detect(frame.picture, times);
    watch.lap();
    std::vector<cv::Mat> crops(boxes.size());
    for_each_line(boxes.size(), [&](size_t i) { crops[i] = crop(frame.picture, boxes[i].box); });
    times.crop = watch.lap();
    std::vector<int> angles(boxes.size(), 0);
    if (classifier_) angles = classifier_->straighten(crops);
    times.classify = watch.lap();
    const std::vector<Reading> readings = recognizer_.read(crops);
    std::vector<Line> lines;
    for (size_t i = 0; i < boxes.size(); ++i)
      if (readings[i].score >= options_.drop_score)
        lines.push_back({frame.to_original(boxes[i].box), readings[i].text, readings[i].score,
                         boxes[i].score, angles[i]});
    times.recognize = watch.lap();
    return lines;
  }

  Options options_;
  Detector detector_;
  std::optional<Classifier> classifier_;
  Recognizer recognizer_;
};

void check(const Options& options) {
  TRI_CHECK(options.det_limit_type == "min" || options.det_limit_type == "max",
            "[ocr] det_limit_type expects min or max, got " + options.det_limit_type);
  TRI_CHECK(options.det_limit_side_len >= 32 && options.det_limit_side_len <= 4096,
            "[ocr] det_limit_side_len expects 32 to 4096, got " +
                std::to_string(options.det_limit_side_len));
  const auto share = [](const char* name, float value) {
    TRI_CHECK(value >= 0 && value <= 1,
              std::string("[ocr] ") + name + " expects 0 to 1, got " + std::to_string(value));
  };
  share("det_db_thresh", options.det_db_thresh);
  share("det_db_box_thresh", options.det_db_box_thresh);
  share("cls_thresh", options.cls_thresh);
  share("drop_score", options.drop_score);
  TRI_CHECK(options.det_db_unclip_ratio > 0 && options.det_db_unclip_ratio <= 10,
            "[ocr] det_db_unclip_ratio expects 0 to 10, got " +
                std::to_string(options.det_db_unclip_ratio));
  TRI_CHECK(options.rec_batch_num >= 1 && options.rec_batch_num <= 256 &&
                options.cls_batch_num >= 1 && options.cls_batch_num <= 256,
            "[ocr] rec_batch_num and cls_batch_num expect 1 to 256");
}

}  // namespace

std::unique_ptr<Pipeline> create_pipeline(const Options& options) {
  check(options);
  // The pipeline works on several lines at once; OpenCV's own threads would only stand in the way
  // of OpenMP's.
  cv::setNumThreads(1);
  const ModelFolder models =
      open_model_folder(options.models, options.rec, options.dict, options.det);
  const auto load = [&](const std::string& folder, std::vector<std::string> float32_ops = {}) {
    inference::Config config(folder);
    config.set_cpu_math_library_num_threads(options.threads);
    config.set_device(options.device);
    config.set_precision(options.precision);
    config.exp_disable_mixed_precision_ops(std::move(float32_ops));
    return Net(inference::create_predictor(config));
  };
  std::optional<Classifier> classifier;
  if (options.use_angle_cls) {
    if (models.classifier.empty())
      fail(Code::kNotFound,
           "[ocr] expected a model in cls/ or *_cls*/; use_angle_cls can be switched off",
           options.models);
    classifier.emplace(load(models.classifier), options);
  }
  std::vector<std::string> float32_ops;  // a CPU's bfloat16 is asked for its speed alone
  if (options.device != "cpu") float32_ops = detector_float32_ops();
  return std::make_unique<OcrPipeline>(
      options,
      Detector(load(models.detector, std::move(float32_ops)), models.detector_input, options),
      std::move(classifier),
      Recognizer(load(models.recognizer), std::make_shared<const Dictionary>(models.dictionary),
                 options));
}

}  // namespace trireme::ocr
