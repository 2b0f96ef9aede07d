// The doctor's reasoning: from what was found on each layer to the first cause and its remedy.
#include "trireme/doctor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "device/doctor_probe.h"

namespace trireme::doctor {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  return text.substr(0, 64 * 1024);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// "580.159.04" of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue ..."
std::string version_in(const std::string& line) {
  for (size_t i = 0; i < line.size(); ++i) {
    const size_t end = line.find_first_not_of("0123456789.", i);
    const std::string word = line.substr(i, end == std::string::npos ? end : end - i);
    if (word.size() >= 5 && std::count(word.begin(), word.end(), '.') >= 1 && word[0] != '.')
      return word;
    if (!word.empty()) i += word.size() - 1;
  }
  return {};
}

class Examination {
 public:
  explicit Examination(const Machine& machine) : m_(machine) {}

  Report run() {
    build();
    environment();
    hardware();
    module();
    nodes();
    driver_libraries();
    driver();
    devices();
    libraries();
    if (report_.verdict.empty()) report_.verdict = "the GPU is ready";
    return std::move(report_);
  }

 private:
  Finding& add(const char* layer) {
    report_.findings.push_back({});
    report_.findings.back().layer = layer;
    return report_.findings.back();
  }
  // The first failure is the verdict; what fails above it is a consequence.
  void failed(Finding& f, int exit_code, std::string summary, std::string fix) {
    f.status = Status::kFailed;
    f.summary = std::move(summary);
    f.fix = std::move(fix);
    if (report_.exit_code == 0) {
      report_.exit_code = exit_code;
      report_.verdict = f.summary;
    }
  }
  fs::path at(const char* path) const { return m_.root + path; }
  bool in_container() const {
    std::error_code e;
    return fs::exists(at("/.dockerenv"), e) || fs::exists(at("/run/.containerenv"), e) ||
           fs::exists(at("/var/run/secrets/kubernetes.io"), e);
  }
  std::string give_gpu() const {
    return in_container() ? "start the container with a GPU: docker run --gpus all ..., compose "
                            "deploy.resources.reservations.devices, or nvidia.com/gpu: 1 in the pod"
                          : "install NVIDIA's driver, or use a machine with a GPU";
  }

  void build() {
    Finding& f = add("build");
    f.facts.push_back({"version", TRIREME_VERSION});
    f.facts.push_back({"compiled with CUDA", m_.compiled ? "yes" : "no"});
    if (m_.compiled) {
      f.facts.push_back({"code for compute capabilities", m_.architectures});
      f.summary = "this build has CUDA";
      return;
    }
    failed(f, 90, "this build has no CUDA", "use a build made with -DTRIREME_CUDA=ON");
  }

  void environment() {
    Finding& f = add("environment");
    for (const char* name :
         {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
          "LD_LIBRARY_PATH", "LD_PRELOAD", "TRIREME_CUDA_PATH"})
      if (const std::string value = m_.variable(name); !value.empty())
        f.facts.push_back({name, value});
    f.facts.push_back({"container", in_container() ? "yes" : "not seen"});
    f.summary = "noted";
  }

  // PCI functions of NVIDIA that are display controllers (class 03).
  void hardware() {
    Finding& f = add("hardware");
    std::error_code e;
    for (const auto& entry : fs::directory_iterator(at("/sys/bus/pci/devices"), e)) {
      if (first_line(text_of(entry.path() / "vendor")) != "0x10de") continue;
      if (!text_of(entry.path() / "class").starts_with("0x03")) continue;
      const fs::path link = fs::read_symlink(entry.path() / "driver", e);
      const std::string driver = e ? "none" : link.filename().string();
      f.facts.push_back({entry.path().filename().string(), "driver " + driver});
      ++cards_;
      if (driver == "nouveau")
        failed(f, 20, "the GPU is held by the nouveau driver",
               "blacklist nouveau, rebuild the initramfs, reboot, install NVIDIA's driver");
      else if (driver.starts_with("vfio"))
        failed(f, 20, "the GPU is set aside for a virtual machine (vfio-pci)",
               "use it inside of that machine, or unbind it");
    }
    if (f.status == Status::kFailed) return;
    f.status = cards_ > 0 ? Status::kOk : Status::kSkipped;
    f.summary = cards_ > 0 ? std::to_string(cards_) + " of NVIDIA's GPUs on the bus"
                           : "no GPU of NVIDIA's on the bus, as far as can be seen from here";
  }

  void module() {
    Finding& f = add("module");
    module_version_ = version_in(first_line(text_of(at("/proc/driver/nvidia/version"))));
    if (module_version_.empty())
      module_version_ = first_line(text_of(at("/sys/module/nvidia/version")));
    std::error_code e;
    wsl_ = fs::exists(at("/dev/dxg"), e);
    if (!module_version_.empty() || wsl_) {
      f.facts.push_back({"version", wsl_ && module_version_.empty() ? "WSL" : module_version_});
      f.summary = "the kernel module is loaded";
      return;
    }
    if (cards_ > 0)
      failed(
          f, 20, "the machine has a GPU, but NVIDIA's kernel module is not loaded",
          "install the driver for this kernel (dkms; with secure boot: sign the module), reboot");
    else failed(f, 10, "there is no GPU: neither on the bus nor a kernel module", give_gpu());
  }

  void nodes() {
    Finding& f = add("nodes");
    if (wsl_) {
      f.facts.push_back({"/dev/dxg", std::strerror(m_.open_error(at("/dev/dxg").string()))});
      f.summary = "WSL's node is there";
      return;
    }
    std::vector<std::string> names{"nvidiactl", "nvidia-uvm"};
    std::error_code e;
    int gpus = 0;
    for (const auto& entry : fs::directory_iterator(at("/dev"), e)) {
      const std::string name = entry.path().filename().string();
      if (name.size() > 6 && name.starts_with("nvidia") &&
          name.find_first_not_of("0123456789", 6) == std::string::npos) {
        names.push_back(name);
        ++gpus;
      }
    }
    for (const std::string& name : names) {
      const int error = m_.open_error(at("/dev/").string() + name);
      f.facts.push_back({"/dev/" + name, error == 0 ? "opens" : std::strerror(error)});
      if (error != 0 && f.status != Status::kFailed) node_failed(f, name, error);
    }
    if (f.status == Status::kFailed) return;
    if (gpus == 0) failed(f, 10, "no /dev/nvidia0: no GPU was given to this container", give_gpu());
    else f.summary = std::to_string(gpus) + " GPU nodes open";
  }

  void node_failed(Finding& f, const std::string& name, int error) {
    const std::string node = "/dev/" + name;
    if (error == ENOENT && name == "nvidia-uvm" && !f.facts.empty() && f.facts[0].second == "opens")
      return failed(
          f, 10, node + " is missing",
          "on the host: nvidia-modprobe -u -c=0; in a container: --device /dev/nvidia-uvm");
    if (error == ENOENT)
      return failed(f, 10, node + " is missing: no GPU was given to this container", give_gpu());
    if (error == EPERM)
      return failed(
          f, 11, node + " is there, but a control group forbids it",
          "restart the container; on the host: nvidia-ctk system create-dev-char-symlinks "
          "--create-all, or use CDI");
    if (error == EACCES)
      return failed(f, 12, node + " may not be opened by this user",
                    "docker run --group-add $(stat -c %g " + node +
                        "); with SELinux: --security-opt label=disable");
    failed(f, 60, node + ": " + std::strerror(error),
           "look for Xid and RmInitAdapter in the host's dmesg; reboot the machine");
  }

  void driver_libraries() {
    Finding& f = add("driver libraries");
    for (const LibraryState& l : m_.driver_libraries)
      f.facts.push_back({l.soname, l.path.empty() ? l.error : l.path + "  " + l.version});
    const LibraryState& cuda = m_.driver_libraries.at(0);
    if (cuda.path.empty())
      return failed(f, 10, "libcuda.so.1 cannot be loaded: " + cuda.error,
                    in_container() ? "start the container with NVIDIA's runtime, with "
                                     "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
                                   : "install NVIDIA's driver");
    if (cuda.path.find("/stubs/") != std::string::npos)
      return failed(f, 30, cuda.path + " is the toolkit's stub, not the driver",
                    "take the stubs folder out of LD_LIBRARY_PATH");
    const std::string name = fs::path(cuda.path).filename().string();
    const std::string version = name.starts_with("libcuda.so.") ? name.substr(11) : "";
    if (!module_version_.empty() && version.size() > 3 && version != module_version_) {
      if (cuda.path.find("/compat") != std::string::npos) {
        f.status = Status::kWarning;
        f.summary = "forward compatibility: libcuda " + version + " over module " + module_version_;
        return;
      }
      return failed(f, 21, "libcuda is " + version + ", the kernel module " + module_version_,
                    "reboot after the driver's upgrade; in a container: make it anew");
    }
    f.summary = "found";
  }

  void driver() {
    Finding& f = add("driver");
    if (m_.init_error < 0) {
      f.status = Status::kSkipped;
      f.summary = "not asked: no libcuda";
      return;
    }
    f.facts.push_back({"cuInit", std::to_string(m_.init_error)});
    if (m_.init_error == 0 && m_.count_error == 0 && m_.count > 0) {
      f.facts.push_back({"devices", std::to_string(m_.count)});
      f.summary = std::to_string(m_.count) + (m_.count == 1 ? " device" : " devices");
      return;
    }
    const int error = m_.init_error != 0 ? m_.init_error : m_.count_error;
    driver_failed(f, error);
  }

  void driver_failed(Finding& f, int error) {
    const std::string number = " (CUDA error " + std::to_string(error) + ')';
    switch (error) {
      case 34:
        return failed(f, 30, "the stub of libcuda was loaded" + number,
                      "take the stubs folder out of LD_LIBRARY_PATH");
      case 46:
        return failed(f, 60, "the devices are taken or in prohibited mode" + number,
                      "stop the process that holds them; the operator: compute mode default");
      case 802:
        return failed(f, 70, "the system is not ready: the NVSwitch fabric manager" + number,
                      "start nvidia-fabricmanager of the driver's version; wait and try again");
      case 803:
        return failed(f, 21, "libcuda and the kernel module differ" + number,
                      "take compat folders out of LD_LIBRARY_PATH; reboot after an upgrade");
      case 804:
        return failed(f, 22, "forward compatibility does not serve this GPU" + number,
                      "upgrade the driver; take the compat folder out of LD_LIBRARY_PATH");
      case 0:
      case 100:
      case 101: {
        const std::string visible = m_.variable("CUDA_VISIBLE_DEVICES");
        if (!visible.empty())
          return failed(f, 40, "CUDA_VISIBLE_DEVICES=" + visible + " hides every device",
                        "unset it, or name devices that are there");
        return failed(f, 10, "the driver shows no device" + number, give_gpu());
      }
      case 999:
        return failed(f, 60, "the driver cannot start" + number,
                      "on the host: nvidia-modprobe -u -c=0; see that /dev/nvidia-uvm opens");
      default:
        return failed(f, 60, "the driver fails" + number, "look for Xid in the host's dmesg");
    }
  }

  void devices() {
    Finding& f = add("devices");
    if (m_.gpus.empty()) {
      f.status = Status::kSkipped;
      f.summary =
          m_.compiled ? "not asked: the driver shows none" : "not asked: no CUDA in this build";
      return;
    }
    int well = 0;
    std::string why;
    for (size_t i = 0; i < m_.gpus.size(); ++i) {
      const GpuState& g = m_.gpus[i];
      const std::string name = "gpu:" + std::to_string(i);
      const std::string trouble = !g.why_not.empty() ? g.why_not : g.probe;
      f.facts.push_back({name, trouble.empty() ? g.model + ", compute capability " + g.capability +
                                                     ", " + g.memory + ", a kernel ran"
                                               : trouble});
      if (trouble.empty()) ++well;
      else if (why.empty()) why = name + ": " + trouble;
    }
    if (well > 0) {
      believe_the_kernel();
      f.status = why.empty() ? Status::kOk : Status::kWarning;
      f.summary = "a kernel ran and its sums were right on " + std::to_string(well) + " of " +
                  std::to_string(m_.gpus.size());
      return;
    }
    const bool code = why.find("has code for") != std::string::npos;
    const bool old = why.find("newer driver") != std::string::npos;
    failed(f,
           code  ? 50
           : old ? 22
                 : 60,
           why,
           code  ? "use a build with code for this GPU"
           : old ? "install a newer driver, or use a build for an older CUDA"
                 : "look for Xid in the host's dmesg");
  }

  // A kernel that ran outweighs signs that it could not (a sandbox shows little of /proc and /sys).
  void believe_the_kernel() {
    for (Finding& f : report_.findings)
      if (f.status == Status::kFailed) f.status = Status::kWarning;
    report_.exit_code = 0;
    report_.verdict.clear();
  }

  void libraries() {
    Finding& f = add("libraries");
    std::string missing;
    for (const LibraryState& l : m_.libraries) {
      f.facts.push_back({l.soname, l.path.empty() ? l.error : l.path + "  " + l.version});
      if (l.path.empty()) missing += (missing.empty() ? "" : ", ") + l.soname;
    }
    if (missing.empty()) {
      f.summary = "all found";
      return;
    }
    f.status = Status::kWarning;
    f.summary = "not found: " + missing;
    f.fix =
        "install them (pip: nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc nvidia-nccl-cu13) "
        "or name their folder in TRIREME_CUDA_PATH";
    if (report_.exit_code != 0) return;
    report_.exit_code = 80;
    report_.verdict = "kernels run, but " + missing + " cannot be loaded";
  }

  const Machine& m_;
  Report report_;
  int cards_ = 0;
  bool wsl_ = false;
  std::string module_version_;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += ' ';
    else out += c;
  }
  return out + '"';
}

constexpr const char* kStatus[] = {"ok", "warning", "failed", "skipped"};

}  // namespace

Report examine(const Machine& machine) { return Examination(machine).run(); }

std::string to_text(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) {
    const std::string status = kStatus[static_cast<size_t>(f.status)];
    out += status + std::string(9 - status.size(), ' ') + f.layer + ": " + f.summary + '\n';
    for (const auto& [name, value] : f.facts) out += "           " + name + ": " + value + '\n';
    if (!f.fix.empty()) out += "           to do: " + f.fix + '\n';
  }
  return out + "\nverdict: " + report.verdict + '\n';
}

std::string to_json(const Report& report) {
  std::string out = "{\"exit_code\": " + std::to_string(report.exit_code) +
                    ", \"verdict\": " + quoted(report.verdict) + ", \"findings\": [";
  const char* separator = "\n  ";
  for (const Finding& f : report.findings) {
    out += separator + std::string("{\"layer\": ") + quoted(f.layer) +
           ", \"status\": " + quoted(kStatus[static_cast<size_t>(f.status)]) +
           ", \"summary\": " + quoted(f.summary) + ", \"fix\": " + quoted(f.fix) + ", \"facts\": {";
    const char* comma = "";
    for (const auto& [name, value] : f.facts) {
      out += comma + quoted(name) + ": " + quoted(value);
      comma = ", ";
    }
    out += "}}";
    separator = ",\n  ";
  }
  return out + "\n]}\n";
}

}  // namespace trireme::doctor
