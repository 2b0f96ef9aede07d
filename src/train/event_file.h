// EventFile: scalars for TensorBoard.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace trireme::train {

// Appends to FOLDER/events.out.tfevents.<seconds>.<host>: records of TensorFlow's framing (length,
// masked CRC-32C, payload) around its Event messages. Throws when the file cannot be made.
class EventFile {
 public:
  explicit EventFile(const std::string& folder);
  void add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write(const std::string& event);
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, Close> file_;
};

// CRC-32C (Castagnoli), as RFC 3720 has it.
uint32_t crc32c(const void* data, size_t bytes);

}  // namespace trireme::train
