// Conversion of files: a model into another format, training files from and to safetensors.
#pragma once

#include <string>
#include <vector>

#include "trireme/types.h"

namespace trireme {

struct ConvertOptions {
  std::string params;  // the parameters' file of a model, when it is not beside the program
  // "NAME=-1x3x48x192", what an input's shape is declared as; "NAME=" may be left out when there is
  // one input. Inputs without one keep what the model declares.
  std::vector<std::string> shapes;
};

// `format`: of models "pdmodel" (inference.pdmodel), "pir" (inference.json), both with
// inference.pdiparams, or "onnx" (model.onnx, opset 17); of .pdparams, .pdopt and .safetensors
// files "pdparams", "pdopt", "safetensors". Makes the folder; files appear whole or not at all.
// Throws kNotFound, kInvalidArgument (a damaged file, options that do not fit), kUnimplemented (an
// operator that the format has no form for).
void convert(const std::string& model, const std::string& format, const std::string& folder,
             const ConvertOptions& options = {});

}  // namespace trireme
