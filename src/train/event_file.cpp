// Writing TensorBoard's records: four fields of two messages, by hand.
#include "train/event_file.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "trireme/error.h"

namespace trireme::train {
namespace {

void varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}
void tag(std::string& out, int field, int wire) {
  varint(out, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}
template <class T> void fixed(std::string& out, int field, T v) {
  tag(out, field, sizeof(T) == 8 ? 1 : 5);
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}
void bytes(std::string& out, int field, const std::string& v) {
  tag(out, field, 2);
  varint(out, v.size());
  out += v;
}

// Event { wall_time = 1 double; step = 2 int64; file_version = 3; summary = 5 }
std::string event(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::string e;
  fixed(e, 1, std::chrono::duration<double>(now).count());
  tag(e, 2, 0);
  varint(e, static_cast<uint64_t>(step));
  return e;
}

uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

}  // namespace

uint32_t crc32c(const void* data, size_t size) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (c & 1 ? 0x82f63b78U : 0);
      t[i] = c;
    }
    return t;
  }();
  uint32_t crc = ~0U;
  for (size_t i = 0; i < size; ++i)
    crc = table[(crc ^ static_cast<const uint8_t*>(data)[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

EventFile::EventFile(const std::string& folder) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  char host[64] = "host";
  (void)gethostname(host, sizeof host - 1);
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/events.out.tfevents." + std::to_string(seconds) + '.' + host;
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (!file_) fail(Code::kInvalidArgument, "[train] cannot write the file", path);
  std::string e = event(0);
  bytes(e, 3, "brain.Event:2");
  write(e);
}

void EventFile::add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;  // Summary { value = 1 { tag = 1; simple_value = 2 float } }
  for (const auto& [name, number] : scalars) {
    std::string value;
    bytes(value, 1, name);
    fixed(value, 2, static_cast<float>(number));
    bytes(summary, 1, value);
  }
  std::string e = event(step);
  bytes(e, 5, summary);
  write(e);
}

void EventFile::write(const std::string& e) {
  const uint64_t length = e.size();
  std::string record(reinterpret_cast<const char*>(&length), sizeof length);
  const auto add_crc = [&record](const void* data, size_t size) {
    const uint32_t crc = masked(crc32c(data, size));
    record.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  };
  add_crc(&length, sizeof length);
  record += e;
  add_crc(e.data(), e.size());
  std::fwrite(record.data(), 1, record.size(), file_.get());
  std::fflush(file_.get());
}

}  // namespace trireme::train
