// The checkpoint store: folders step-N that are whole or are not taken.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "formats/safetensors.h"

namespace trireme {

struct CheckpointOptions {
  int keep_last = 3;  // of the newest; at least 1. The one that mark_best named stays besides.
};

struct Checkpoint {
  int64_t step = 0;
  std::string path;  // its folder
};

struct CheckpointContent {
  int64_t step = 0;
  std::vector<NamedArray> tensors;
  std::string state_json;
};

// Writes folder/step-N: tensors in safetensors files (a name's part before the first '/' is the
// file, "tensors" when there is none), `state_json` and a manifest with the size and SHA-256 of
// every file. All is written aside, made durable, then renamed: after a crash at any moment the
// folder holds the old checkpoints, or those and the new one. A step that is there already is
// replaced. Then removes checkpoints beyond `keep_last` and what crashed saves left behind, so a
// folder has one writer at a time. Throws kResourceExhausted (disk full), kInvalidArgument (no
// permission; names or JSON that cannot be written); the older checkpoints stay.
Checkpoint save_checkpoint(const std::string& folder, int64_t step,
                           std::span<const NamedArray> tensors, const std::string& state_json,
                           const CheckpointOptions& options = {});

// Keeps this step from being removed; the one marked before may go.
void mark_best(const std::string& folder, int64_t step, double metric);
std::optional<Checkpoint> best_checkpoint(const std::string& folder);

// The newest whose manifest, sizes and checksums all agree; nothing when there is none (also
// without the folder). Reads all files, changes nothing. `skipped` (optional) gets a line for each
// newer one that is broken.
std::optional<Checkpoint> latest_checkpoint(const std::string& folder,
                                            std::vector<std::string>* skipped = nullptr);

// Reads one; throws kNotFound, kInvalidArgument naming the file that is not what it was.
CheckpointContent load_checkpoint(const std::string& path);

}  // namespace trireme
