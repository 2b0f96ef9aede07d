// jit: a network written as an inference program; Paddle's jit.save.
#pragma once

#include <string>
#include <vector>

#include "trireme/layer.h"
#include "trireme/types.h"

namespace trireme {

// Paddle's static.InputSpec. Dimensions of Shape::kUnknown (-1) may be anything later.
struct InputSpec {
  Shape shape;
  DType dtype = DType::kFloat32;
  std::string name = "x";
};

namespace jit {

struct SaveOptions {
  std::string format = "pdmodel";  // inference.pdmodel; "pir": inference.json; both with
                                   // inference.pdiparams; "onnx": model.onnx, opset 17
};

// Records model.forward() in evaluation mode (the model's own mode is restored), merges batch norms
// into the convolutions before them, writes the files into FOLDER, which is made. Throws
// kInvalidArgument when forward() reads values or depends on unknown sizes, kUnimplemented for an
// operator that the format has no form for.
void save(nn::Layer& model, const std::string& folder, const std::vector<InputSpec>& input_spec,
          const SaveOptions& options = {});

}  // namespace jit
}  // namespace trireme
