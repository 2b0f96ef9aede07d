// VOC's annotations: one XML file a picture.
#include <tinyxml2.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "train/data_files.h"

namespace trireme::vision::datasets {
namespace {

using tinyxml2::XMLElement;

struct NamedBox {
  VOCDataset::Box box;
  std::string name;
};

[[noreturn]] void fail_at(const XMLElement& where, const std::string& what) {
  fail(Code::kInvalidArgument, "[VOCDataset] " + what,
       "line " + std::to_string(where.GetLineNum()));
}

const XMLElement& child(const XMLElement& parent, const char* name) {
  const XMLElement* found = parent.FirstChildElement(name);
  if (found == nullptr)
    fail_at(parent, std::string("<") + parent.Name() + "> has no <" + name + ">");
  return *found;
}

float number(const XMLElement& parent, const char* name) {
  const XMLElement& element = child(parent, name);
  float value = 0;
  if (element.QueryFloatText(&value) != tinyxml2::XML_SUCCESS || !std::isfinite(value))
    fail_at(element, std::string("expected a number in <") + name + ">");
  return value;
}

NamedBox read_object(const XMLElement& object, float width, float height) {
  NamedBox result;
  const XMLElement& name = child(object, "name");
  result.name = name.GetText() != nullptr ? name.GetText() : "";
  if (result.name.empty()) fail_at(name, "an object has no name");
  const XMLElement& bounds = child(object, "bndbox");
  auto& box = result.box;
  // VOC counts pixels from 1, and its ends are the last pixel inside.
  box.x1 = number(bounds, "xmin") - 1;
  box.y1 = number(bounds, "ymin") - 1;
  box.x2 = number(bounds, "xmax");
  box.y2 = number(bounds, "ymax");
  // Some writers count from 0.
  box.x1 = std::max(box.x1, 0.0f);
  box.y1 = std::max(box.y1, 0.0f);
  if (box.x1 >= box.x2 || box.y1 >= box.y2 || box.x2 > width || box.y2 > height)
    fail_at(bounds, "a box of " + result.name + " is empty, or outside of the picture");
  const XMLElement* difficult = object.FirstChildElement("difficult");
  box.difficult = difficult != nullptr && difficult->GetText() != nullptr &&
                  std::string_view(difficult->GetText()) == "1";
  return result;
}

std::vector<NamedBox> read_boxes(const std::string& path) {
  const std::string text = text_of_file(path);
  tinyxml2::XMLDocument document;
  if (document.Parse(text.data(), text.size()) != tinyxml2::XML_SUCCESS)
    fail(Code::kInvalidArgument, std::string("[VOCDataset] damaged XML: ") + document.ErrorName(),
         "line " + std::to_string(document.ErrorLineNum()));
  const XMLElement* root = document.FirstChildElement("annotation");
  TRI_CHECK(root != nullptr, "[VOCDataset] expected <annotation>");
  const XMLElement& size = child(*root, "size");
  const float width = number(size, "width"), height = number(size, "height");
  std::vector<NamedBox> boxes;
  for (const XMLElement* object = root->FirstChildElement("object"); object != nullptr;
       object = object->NextSiblingElement("object"))
    boxes.push_back(read_object(*object, width, height));
  return boxes;
}

template <class T> Array column(DType dtype, const Shape& shape, const std::vector<T>& values) {
  return Array::from<T>(shape, values, dtype);
}

}  // namespace

VOCDataset::VOCDataset(const std::string& images, const std::string& annotations,
                       std::vector<std::string> classes, PictureOptions options,
                       io::OnError on_error)
    : classes_(std::move(classes)), options_(std::move(options)) {
  const bool collect = classes_.empty();
  std::set<std::string> names;
  std::vector<std::vector<NamedBox>> all;
  for (const std::string& file : pictures_of(images, true)) {
    const std::string stem = std::filesystem::path(file).stem().string();
    const std::string xml = (std::filesystem::path(annotations) / (stem + ".xml")).string();
    try {
      std::vector<NamedBox> boxes = read_boxes(xml);
      for (const NamedBox& box : boxes) {
        TRI_CHECK(collect || std::ranges::find(classes_, box.name) != classes_.end(),
                  "[VOCDataset] \"" + box.name + "\" is not one of the classes");
        names.insert(box.name);
      }
      all.push_back(std::move(boxes));
      files_.push_back(file);
    } catch (const Error& e) {
      const std::string_view at = e.location();
      // read_file_bytes has named the file already.
      if (on_error == io::OnError::kRaise) throw at.find(xml) == at.npos ? e.at(xml) : e;
      ++skipped_;
    }
  }
  if (files_.empty()) fail(Code::kInvalidArgument, "[VOCDataset] no pictures with boxes", images);
  if (collect) classes_.assign(names.begin(), names.end());
  for (const auto& boxes : all) {
    std::vector<Box>& mine = boxes_.emplace_back();
    for (const NamedBox& named : boxes) {
      mine.push_back(named.box);
      mine.back().label = std::ranges::find(classes_, named.name) - classes_.begin();
    }
  }
}

io::Sample VOCDataset::get(int64_t index, RandomStream& random) const {
  const auto& boxes = boxes_.at(static_cast<size_t>(index));
  std::vector<float> corners;
  std::vector<int64_t> labels;
  std::vector<uint8_t> difficult;
  for (const Box& box : boxes) {
    corners.insert(corners.end(), {box.x1, box.y1, box.x2, box.y2});
    labels.push_back(box.label);
    difficult.push_back(box.difficult ? 1 : 0);
  }
  const auto n = static_cast<int64_t>(boxes.size());
  return {load_picture(files_.at(static_cast<size_t>(index)), options_, random),
          column<float>(DType::kFloat32, {n, 4}, corners),
          column<int64_t>(DType::kInt64, {n}, labels),
          column<uint8_t>(DType::kUInt8, {n}, difficult)};
}

}  // namespace trireme::vision::datasets
