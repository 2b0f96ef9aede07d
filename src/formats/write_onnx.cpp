// stub
#include "formats/export_model.h"
#include "trireme/error.h"
namespace trireme {
void write_onnx(const ExportModel&, const std::string&) { fail(Code::kUnimplemented, "[onnx] not yet"); }
}
