// What stands between this program and a GPU: each layer looked at, the first that fails explained.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace trireme::doctor {

enum class Status { kOk, kWarning, kFailed, kSkipped };

struct Finding {
  std::string layer;  // "build", "environment", "hardware", "module", "nodes", "driver libraries",
                      // "driver", "devices", "libraries"
  Status status = Status::kOk;
  std::string summary;  // one line
  std::string fix;      // what to do; empty when there is nothing
  std::vector<std::pair<std::string, std::string>> facts;  // what was found, in order
};

struct Report {
  std::vector<Finding> findings;  // from the bottom up
  // 0: a kernel ran. Else the class of the first layer that fails: 10 no GPU is given to this
  // container or there is none, 11 a control group blocks it, 12 permissions, 20 no kernel module,
  // 21 module and library differ, 22 the driver is too old, 30 a wrong libcuda, 40 hidden by
  // CUDA_VISIBLE_DEVICES, 50 no code for this GPU, 60 the GPU or its driver fails, 70 the fabric is
  // not ready, 80 a kernel ran but libraries are missing, 90 this build has no CUDA.
  int exit_code = 0;
  std::string verdict;  // one line: the cause
};

// Looks at everything; takes a second or two where there is a GPU. Never throws for what it finds.
Report examine();

std::string to_text(const Report& report);
std::string to_json(const Report& report);

}  // namespace trireme::doctor
