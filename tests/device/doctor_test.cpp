// The doctor's verdicts on pretended machines: folders in place of /proc, /dev and /sys, and given
// answers of the driver.
#include "trireme/doctor.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "device/doctor_probe.h"
#include "support/temp.h"

namespace trireme::doctor {
namespace {

namespace fs = std::filesystem;

// A machine on which all is well; tests break one thing of it.
class Doctor : public testing::Test {
 protected:
  Doctor() {
    m.root = folder.path().string();
    write("proc/driver/nvidia/version",
          "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Aug  1 00:00:00 2026\n");
    write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    write("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
    driver("nvidia");
    for (const char* node : {"nvidiactl", "nvidia-uvm", "nvidia0", "nvidia-caps"})
      write(std::string("dev/") + node, "");
    m.variable = [this](const char* name) { return variables[name]; };
    m.open_error = [this](const std::string& file) {
      if (!fs::exists(file)) return ENOENT;
      const auto it = errors.find(fs::path(file).filename().string());
      return it == errors.end() ? 0 : it->second;
    };
    m.driver_libraries = {{"libcuda.so.1", "/usr/lib/libcuda.so.580.159.04", "CUDA 13.0", ""},
                          {"libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.580.159.04", "", ""}};
    m.libraries = {{"libcudnn.so.9", "/usr/lib/libcudnn.so.9", "9.19.0", ""}};
    m.compiled = true;
    m.architectures = "80, 90";
    m.init_error = 0;
    m.count = 1;
    m.gpus = {{"H100", "9.0", "80 GiB", "", ""}};
  }
  void write(const std::string& file, const std::string& text) {
    const fs::path path = folder.path() / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void driver(const std::string& name) {
    const fs::path link = folder / "sys/bus/pci/devices/0000:01:00.0/driver";
    fs::remove(link);
    fs::create_symlink("../../../bus/pci/drivers/" + name, link);
  }
  void no_nodes() { fs::remove_all(folder / "dev"); }
  void no_driver(int error) {
    m.init_error = error;
    m.count = 0;
    m.gpus.clear();
  }
  void expect(int exit_code, const std::string& verdict, const std::string& fix = {}) {
    const Report r = examine(m);
    EXPECT_EQ(r.exit_code, exit_code) << to_text(r);
    EXPECT_NE(r.verdict.find(verdict), std::string::npos) << to_text(r);
    EXPECT_NE(to_text(r).find(fix), std::string::npos) << to_text(r);
    EXPECT_EQ(nlohmann::json::parse(to_json(r)).at("exit_code"), exit_code);
  }

  test::TempFolder folder;
  Machine m;
  std::map<std::string, std::string> variables;
  std::map<std::string, int> errors;
};

TEST_F(Doctor, FindsNothing) { expect(0, "the GPU is ready", "a kernel ran"); }

TEST_F(Doctor, BuildWithoutCuda) {
  m.compiled = false;
  m.gpus.clear();
  expect(90, "this build has no CUDA", "-DTRIREME_CUDA=ON");
}

TEST_F(Doctor, ContainerWithoutAGpu) {  // G01: the module shows, nothing was handed in
  write(".dockerenv", "");
  no_nodes();
  m.driver_libraries[0] = {"libcuda.so.1", "", "", "no such file"};
  no_driver(-1);
  expect(10, "no GPU was given to this container", "docker run --gpus all");
}

TEST_F(Doctor, NoGpuAtAll) {
  fs::remove_all(folder / "proc");
  fs::remove_all(folder / "sys");
  no_nodes();
  m.driver_libraries[0] = {"libcuda.so.1", "", "", "no such file"};
  no_driver(-1);
  expect(10, "there is no GPU", "install NVIDIA's driver");
}

TEST_F(Doctor, CardWithoutModule) {  // G06
  fs::remove_all(folder / "proc");
  no_nodes();
  no_driver(-1);
  expect(20, "NVIDIA's kernel module is not loaded", "dkms");
}

TEST_F(Doctor, Nouveau) {  // G07
  driver("nouveau");
  no_driver(100);
  expect(20, "nouveau", "blacklist");
}

TEST_F(Doctor, CardOfAVirtualMachine) {  // G08
  driver("vfio-pci");
  no_driver(100);
  expect(20, "vfio-pci");
}

TEST_F(Doctor, LibraryAndModuleDiffer) {  // G09
  m.driver_libraries[0].path = "/usr/lib/libcuda.so.575.57.08";
  no_driver(803);
  expect(21, "libcuda is 575.57.08, the kernel module 580.159.04", "reboot");
}

TEST_F(Doctor, ControlGroupForbids) {  // G10
  errors["nvidiactl"] = errors["nvidia0"] = EPERM;
  no_driver(100);
  expect(11, "control group", "create-dev-char-symlinks");
}

TEST_F(Doctor, UvmIsMissing) {  // G12
  fs::remove(folder / "dev/nvidia-uvm");
  no_driver(999);
  expect(10, "/dev/nvidia-uvm is missing", "nvidia-modprobe -u");
}

TEST_F(Doctor, FabricIsNotReady) {  // G13
  no_driver(802);
  expect(70, "fabric manager", "nvidia-fabricmanager");
}

TEST_F(Doctor, CompatOnAConsumerCard) {  // G15
  no_driver(804);
  m.driver_libraries[0].path = "/usr/local/cuda/compat/libcuda.so.590.10";
  expect(22, "forward compatibility");
}

TEST_F(Doctor, DriverIsTooOld) {  // G16
  m.gpus[0] = {"", "", "",
               "the driver serves CUDA 12.4, this program needs 13.0: install a newer driver", ""};
  expect(22, "needs 13.0");
}

TEST_F(Doctor, Stub) {  // G17
  m.driver_libraries[0].path = "/usr/local/cuda/lib64/stubs/libcuda.so";
  no_driver(34);
  expect(30, "stub", "LD_LIBRARY_PATH");
}

TEST_F(Doctor, NoPermission) {  // G22
  errors["nvidia0"] = EACCES;
  no_driver(100);
  expect(12, "/dev/nvidia0 may not be opened by this user", "--group-add");
}

TEST_F(Doctor, HiddenByTheEnvironment) {  // G33
  variables["CUDA_VISIBLE_DEVICES"] = "-1";
  no_driver(100);
  expect(40, "CUDA_VISIBLE_DEVICES=-1 hides every device");
}

TEST_F(Doctor, NoCodeForTheCard) {  // G36
  m.gpus[0] = {"", "", "", "T4 has compute capability 7.5, this program has code for 80, 90", ""};
  expect(50, "compute capability 7.5");
}

TEST_F(Doctor, WrongSums) {
  m.gpus[0].probe = "a sum came out wrong at element 5";
  expect(60, "a sum came out wrong");
}

TEST_F(Doctor, LibrariesAreMissing) {
  m.libraries.push_back({"libnvrtc.so.13", "", "", "no such file"});
  expect(80, "libnvrtc.so.13", "TRIREME_CUDA_PATH");
}

TEST_F(Doctor, AKernelThatRanOutweighsASandboxThatShowsNothing) {
  fs::remove_all(folder / "proc");
  fs::remove_all(folder / "sys");
  expect(0, "the GPU is ready");
}

TEST(DoctorHere, ExaminesThisMachine) {
  const Report r = doctor::examine();
  EXPECT_FALSE(r.verdict.empty());
  EXPECT_GE(r.findings.size(), 8u);
}

}  // namespace
}  // namespace trireme::doctor
